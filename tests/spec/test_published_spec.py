"""Tables of published numbers, read from files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.evaluation.resolve import resolved
from harness.spec.published import load_table, parse_table, table_paths

TABLE = """
name = "paper"
backends = ["numpy"]
epsilon_unit = 255
[paper]
title = "On Digits"
authors = "Doe"
year = 2020
[data]
name = "digits"
[models.net]
file = "net.safetensors"
architecture = "mlp"
hidden = [8]
[[published]]
check = "clean"
percent = 97.5
images = 360
source = "table 1"
[[published]]
check = "fgsm"
epsilon = 8
percent = 50
images = 360
source = "table 1"
budget = "one step"
[[published]]
check = "certified/ibp"
epsilon = 4
percent = 20.5
images = 360
source = "table 2"
[attacks.fgsm]
epsilons = [4, 8]
images = 100
[certified.ibp]
epsilons = [4]
"""


def table():
    return parse_table(TABLE, "paper.toml")


def test_a_table_is_a_spec_and_numbers_of_its_checks():
    found = table()
    assert (found.name, found.paper.authors, found.paper.year) == ("paper", "Doe", 2020)
    assert [one.label for one in found.numbers] == [
        "clean", "fgsm@0.0313725", "certified/ibp@0.0156863",
    ]  # fmt: skip
    assert [one.bound for one in found.numbers] == ["exact", "upper", "lower"]
    assert {one.model for one in found.numbers} == {"net"}
    assert [one.percent for one in found.numbers] == [97.5, 50.0, 20.5]
    # In the unit of the spec, and to the bit an epsilon of its sweep.
    assert found.numbers[1].epsilon == found.spec.attacks["fgsm"].epsilons[1]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ([], [0, 1, 2]), (["clean"], [0]), (["fgsm", "clean"], [0, 1]), (["ibp"], [2]),
        (["certified/ibp"], [2]), (["fgsm@0.0313725"], [1]),
    ],
)  # fmt: skip
def test_numbers_are_chosen_by_name(names, labels):
    found = table()
    assert found.chosen(names) == tuple(found.numbers[at] for at in labels)


def test_a_name_of_no_number_is_one_line():
    with pytest.raises(SpecError, match=r"--only: clena: no such number; .* did you mean clean\?"):
        table().chosen(["clena"])


def test_fewer_images_are_those_of_attacks_and_certificates():
    fewer = table().of_first(40).spec
    assert (fewer.attacks["fgsm"].images, fewer.certified["ibp"].images) == (40, 40)
    assert table().of_first(200).spec.attacks["fgsm"].images == 100
    assert table().of_first(None) == table()


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('check = "fgsm"', 'check = "fgms"',
         "published.1.check: there is no [attacks.fgms], nor is it clean"),
        ('check = "certified/ibp"', 'check = "certified/crown"',
         "published.2.check: there is no [certified.crown], nor is it clean"),
        ("epsilon = 8\n", "epsilon = 9\n", "published.1.epsilon: 0.0352941 is not in"),
        ("epsilon = 8\n", "epsilon = true\n", "published.1.epsilon: Input should be a valid"),
        ("epsilon = 8\n", "", "published.1.epsilon: missing; say the radius of fgsm"),
        ('check = "clean"', 'check = "clean"\nepsilon = 0', "published.0.epsilon: clean accuracy"),
        ('check = "clean"', 'check = "clean"\nmodel = "ent"',
         "published.0.model: ent: no such model; the models are net; did you mean net?"),
        ("percent = 97.5", "percent = 975", "published.0.percent: "),
        ("percent = 97.5", 'percent = "97.5"', "published.0.percent: "),
        ("images = 360", "images = 0", "published.0.images: "),
        ('source = "table 1"', 'sauce = "table 1"', "published.0.sauce: unknown key; did you mean"),
        ("year = 2020", "", "paper.year: "),
        ("[paper]", "[papers]", "papers: unknown key"),
        ("hidden", "hiden", ""),
        ('name = "paper"', 'name = "paper', "not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_one_line_that_names_the_key(old, new, finding):
    assert old in TABLE
    text = TABLE.replace(old, new, 1)
    if not finding:
        with pytest.raises(SpecError, match=r"models\.net\.hiden: unknown key; .*hidden"):
            resolved(parse_table(text, "paper.toml").spec)
        return
    with pytest.raises(SpecError) as error:
        parse_table(text, "paper.toml")
    assert str(error.value).startswith(f"paper.toml: {finding}")
    assert "\n" not in str(error.value)


def test_a_table_without_numbers_and_two_models_without_a_name_are_refused():
    bare = TABLE.partition("[[published]]")[0] + "[attacks]\n"
    with pytest.raises(SpecError, match=r"paper\.toml: published: "):
        parse_table(bare, "paper.toml")
    second = '[models.other]\nfile = "b.safetensors"\n[[published]]'
    with pytest.raises(SpecError, match=r"published\.0\.model: say which of net, other"):
        parse_table(TABLE.replace("[[published]]", second, 1), "paper.toml")


def test_tables_are_named_or_in_a_file_or_in_a_folder(tmp_path):
    names = [path.stem for path in table_paths()]
    assert {"trades", "wong-kolter-mnist"} <= set(names)
    assert [path.stem for path in table_paths("trades")] == ["trades"]
    own = tmp_path / "own.toml"
    with pytest.raises(SpecError, match=r"holds no \.toml"):
        table_paths(str(tmp_path))
    own.write_text(TABLE)
    assert table_paths(str(own)) == table_paths(str(tmp_path)) == [own]
    assert load_table(own).spec.home == tmp_path
    with pytest.raises(SpecError, match=r"traeds: no such table; .* did you mean trades\? \(or"):
        table_paths("traeds")
    with pytest.raises(SpecError, match=r"^'': no such table; the tables are"):
        table_paths("")
    with pytest.raises(SpecError, match=r"none\.toml: cannot be read"):
        load_table(tmp_path / "none.toml")


def test_the_table_of_the_page_is_one():
    page = Path(__file__).parents[2] / "docs" / "published.md"
    if not page.is_file():
        pytest.skip("not in a checkout")
    (block,) = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    found = parse_table(block, "docs/published.md")
    assert resolved(found.spec).name == found.name == "ours"
    assert [one.label for one in found.numbers] == ["clean", "pgd-20@0.0313725"]


@pytest.mark.parametrize("path", table_paths(), ids=lambda path: path.stem)
def test_a_shipped_table_says_where_each_number_is_from_and_pins_its_weights(path):
    found = load_table(path)
    assert found.name == path.stem
    assert found.paper.url.startswith("https://")
    for number in found.numbers:
        assert number.source
        assert number.images == 10000
        if number.bound == "upper":
            assert number.budget
            images = found.spec.attacks[number.check].images
            assert images is None or images >= 1000
    for model in found.spec.models.values():
        assert model.sha256
