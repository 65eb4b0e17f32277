"""Every mistake in a configuration is one clear sentence, before anything starts."""

import pytest

from core.errors import UserError
from methods.specs import SCALES
from pipeline import config


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_loads_with_every_method_of_its_table(scale):
    loaded = config.load({"scale": scale})
    assert loaded["scale"] == scale
    assert loaded["dataset"] == "procedural"


def test_the_default_is_cpu_and_a_scale_file_is_a_difference():
    cpu, smoke = config.load({}), config.load({"scale": "smoke"})
    assert cpu["scale"] == "cpu"
    assert smoke["table2"] == cpu["table2"]
    assert smoke["prepare"]["sigmas"] == cpu["prepare"]["sigmas"]
    assert smoke["prepare"]["volume"] < cpu["prepare"]["volume"]


def test_a_configfile_and_a_scale_mean_the_same():
    given = config.read_yaml(config.FOLDER / "smoke.yaml")  # what --configfile config/smoke.yaml hands over
    assert config.load(given) == config.load({"scale": "smoke"})


def test_what_the_command_line_says_wins():
    given = {"scale": "smoke", "prepare": {"points": 1024}, "seeds": [1, 2]}
    loaded = config.load(given)
    assert loaded["prepare"]["points"] == 1024
    assert loaded["prepare"]["grid"] == config.load({"scale": "smoke"})["prepare"]["grid"]
    assert loaded["seeds"] == [1, 2]


def test_numbers_inside_lists_and_mappings_are_text_to_snakemake_and_numbers_here():
    given = {"scale": "smoke", "seeds": ["0", "1"], "prepare": {"sigmas": ["0.01"], "keep": ["depth"]}}
    given["datasets"] = {"procedural": {"counts": {"train": "8"}, "held_out_family": "null"}}
    loaded = config.load(given)
    assert loaded["seeds"] == [0, 1]
    assert loaded["prepare"]["sigmas"] == [0.01]
    assert loaded["prepare"]["keep"] == ["depth"]
    assert loaded["datasets"]["procedural"]["counts"]["train"] == 8
    assert loaded["datasets"]["procedural"]["held_out_family"] is None


def test_the_sizes_of_the_paper():
    prepare = config.load({"scale": "paper"})["prepare"]
    assert (prepare["drawn"], prepare["volume"], prepare["near"]) == (16384, 131072, 131072)
    assert prepare["points"] % prepare["drawn"] == 0 and prepare["points"] > prepare["drawn"]
    assert prepare["azimuths"] * (1 + prepare["rotations"]) == 56


MISTAKES = [
    ({"scale": "smok"}, "no scale 'smok'", "did you mean 'smoke'"),
    ({"datset": "meshes"}, "no key 'datset'", "did you mean 'dataset'"),
    ({"prepare": {"pionts": 8}}, "prepare: there is no key 'pionts'", "did you mean 'points'"),
    ({"prepare": {"points": "many"}}, "prepare.points", "is not of type"),
    ({"dataset": "proceduril"}, "no dataset 'proceduril'", "did you mean 'procedural'"),
    ({"dataset": "/no/such/folder"}, "no folder '/no/such/folder'", "procedural"),
    ({"seeds": []}, "seeds", ""),
    ({"seeds": 3}, "seeds", "is not of type"),
    ({"evaluation": {"protocol": "v2"}}, "no protocol 'v2'", "v1"),
    ({"figure4": {"protocol": "vexset"}}, "no protocol 'vexset'", "did you mean 'vecset'"),
    (
        {"table_s1": {"protocol": "triposr"}},
        "figure5.of: the rows of table_s1 are of protocol triposr",
        "same `protocol`",
    ),
    ({"evaluation": {"views": 4}}, "evaluation.views is 4, but prepare.azimuths makes only 2", ""),
    ({"prepare": {"image_size": 60}}, "which the patches of mar3d/full (16 pixels) do not divide", "multiple of 16"),
    ({"table2": {"settings": ["mar3dd/full"]}}, "table2: there is no method 'mar3dd'", "did you mean 'mar3d'"),
    ({"table2": {"settings": ["mar3d/ful"]}}, "no variant of mar3d 'ful'", "did you mean 'full'"),
    ({"table2": {"settings": ["mar3d"]}}, "'mar3d' is not method/variant", "mar3d/full"),
    ({"table2": {"settings": []}}, "table2.settings", ""),
    ({"schedules": {"settings": ["mar3d/step_4"]}}, "no variant of mar3d 'step_4'", "did you mean 'steps_4'"),
    ({"claims": {"of": ["table3"]}}, "claims.of: there is no artefact 'table3'", "did you mean 'table2'"),
    ({"claims": {"setings": ["mar3d/full"]}}, "claims: there is no key 'setings'", "did you mean 'settings'"),
    ({"datasets": {"procedural": {"counts": {"trian": 3}}}}, "no key 'trian'", "did you mean 'train'"),
    ({"datasets": {"mine": {"source": "ftp"}}}, "datasets.mine.source", "ftp"),
    ({"dataset": "mine", "datasets": {"mine": {"source": "folder"}}}, "datasets.mine lacks the key 'root'", ""),
    (
        {"dataset": "mine", "datasets": {"mine": {"source": "folder", "root": "/no/where"}}},
        "/no/where",
        "set datasets.mine.root",
    ),
]


@pytest.mark.parametrize(
    ("given", "says", "helps"), MISTAKES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_mistake_is_one_sentence(given, says, helps):
    with pytest.raises(UserError) as error:
        config.load(given)
    text = str(error.value)
    assert says in text
    assert helps in text
    assert "\n" not in text


def test_a_folder_is_a_dataset_with_a_name_of_its_own(tmp_path):
    folder = tmp_path / "My Chairs"
    folder.mkdir()
    loaded = config.load({"dataset": str(folder)})
    assert loaded["dataset"].startswith("my_chairs_")
    assert loaded["datasets"][loaded["dataset"]] == {"source": "folder", "root": str(folder)}
    (folder / "index.csv").write_text("id,path,split,category\n")
    assert config.load({"dataset": str(folder)})["datasets"][loaded["dataset"]]["index"] == "index.csv"


def test_a_dataset_whose_name_is_a_number_is_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    assert config.load({"dataset": 2024})["dataset"].startswith("2024_")  # --config reads 2024 as a number
