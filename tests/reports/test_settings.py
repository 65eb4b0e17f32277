import pytest

from core.errors import UserError
from methods import registry
from reports.settings import setting


def test_every_variant_makes_a_row_with_a_label_of_its_own():
    methods = registry.load_methods().values()
    labels = [setting(f"{method.name}/{variant}").label for method in methods for variant in method.variants]
    assert len(set(labels)) == len(labels)
    for method in methods:
        assert setting(f"{method.name}/{method.first_variant}").label.startswith(method.label)


def test_controls_are_marked_and_those_that_see_the_truth_twice():
    assert setting("mar3d/full").control == ""
    assert setting("mean_shape/full").control == "control"
    assert "sees the truth" in setting("ground_truth/full").control


@pytest.mark.parametrize(
    ("name", "says"), [("mar3d", "method/variant"), ("mar3d/ful", "'full'"), ("mard/full", "'mar3d'")]
)
def test_a_wrong_name_is_one_sentence(name, says):
    with pytest.raises(UserError, match=says):
        setting(name)
