from core.randomness import numpy_rng, seed_of


def test_streams_are_pinned_for_all_time():
    # A change here would change every prepared object and every generated mesh.
    assert seed_of("procedural", "train", 17) == 4883951309076156310
    assert numpy_rng("a", 0).integers(1 << 32, size=2).tolist() == [26811999, 4087393961]


def test_names_do_not_run_into_each_other():
    seeds = {
        seed_of("a", "b"),
        seed_of("ab"),
        seed_of("a", "b", ""),
        seed_of("a,b"),
        seed_of("a", 1),
        seed_of("a", "1"),
    }
    assert len(seeds) == 6


def test_a_seed_fits_a_signed_64_bit_integer():
    assert all(0 <= seed_of("x", i) < 2**63 for i in range(1000))
