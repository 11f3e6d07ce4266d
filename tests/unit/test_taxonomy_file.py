"""Taxonomy files: the paper's own, and what is wrong with a malformed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailmark.errors import TaxonomyError
from tailmark.taxonomy import Taxonomy, load_taxonomy

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml"

SMALL = """
name: small
markers:
  mood:
    kind: categorical
    definition: How it sounds.
    values: {calm: Calm., loud: Loud.}
  stars:
    kind: integer
    definition: How many stars.
    minimum: 1
    maximum: 5
  score:
    kind: real
    definition: A score.
"""


@pytest.fixture(scope="module")
def paper() -> Taxonomy:
    return load_taxonomy(PAPER)


def write(folder: Path, text: str) -> Path:
    path = folder / "taxonomy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_is_the_papers_taxonomy(paper: Taxonomy) -> None:
    assert set(paper.markers) == {
        "quality", "quality_bucket", "length_tokens", "length_sentences", "length_paragraphs", "length_bucket",
        "task", "domain", "code_type", "format", "source", "style", "lang",
    }  # fmt: skip
    sizes = {name: len(spec.values) for name, spec in paper.markers.items() if spec.values}
    assert sizes == {
        "quality_bucket": 4, "length_bucket": 3, "task": 14, "domain": 11, "code_type": 17,
        "format": 8, "source": 4, "style": 3, "lang": 23,
    }  # fmt: skip
    assert {"Finance", "Unspecified"} <= set(paper.markers["domain"].values)


@pytest.mark.parametrize("marker", ["domain", "task"])
def test_every_value_a_tagger_chooses_from_has_an_example(paper: Taxonomy, marker: str) -> None:
    spec = paper.markers[marker]
    assert {example.value for example in spec.examples} == set(spec.values)


def test_what_has_no_bounds_has_the_hash_it_had_before_there_were_any(paper: Taxonomy) -> None:
    assert paper.digest == "0f3a5e9545d23249e31e0a864dc605004aba1dd3f338b03a3f5bf6823ebbc17b"
    content = paper.model_dump()
    content["markers"]["length_bucket"]["bounds"] = (300, 1001)
    assert Taxonomy.model_validate(content).digest != paper.digest


def test_every_definition_is_a_sentence(paper: Taxonomy) -> None:
    texts = [text for spec in paper.markers.values() for text in [spec.definition, *spec.values.values()]]
    assert all(text.endswith(".") and text[0].isupper() for text in texts)


@pytest.mark.parametrize(
    ("marker", "text", "value"),
    [("quality_bucket", "1", "1"), ("length_tokens", "60", 60), ("quality", "0.25", 0.25), ("lang", "Greek", "Greek")],
)
def test_typed_reads_back_what_a_list_holds(paper: Taxonomy, marker: str, text: str, value: object) -> None:
    typed = paper.typed(marker, text)
    assert typed == value
    assert type(typed) is type(value)
    assert paper.allows(marker, typed)


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        ("lang", "greek"), ("length_tokens", "sixty"), ("length_tokens", "0"), ("length_tokens", "1.5"), ("quality", "nan"),
        ("quality", "inf"), ("length_tokens", "9" * 30), ("length_tokens", "9" * 5000), ("nothing", "1"),
    ],
)  # fmt: skip
def test_typed_refuses_what_a_marker_cannot_be(paper: Taxonomy, marker: str, text: str) -> None:
    with pytest.raises(TaxonomyError) as caught:
        paper.typed(marker, text)
    assert caught.value.fix
    assert not paper.allows(marker, text)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("calm: Calm., loud: Loud.", "calm: Calm., calm: Loud.", "calm"),
        ("  stars:", "  mood:", "mood"),
        ("kind: integer", "kin: integer", "markers.stars.kin"),
        ("kind: real", "kind: float", "markers.score.kind"),
        ("    values: {calm: Calm., loud: Loud.}\n", "", "markers.mood"),
        ("calm: Calm.", "1: Calm.", "markers.mood.values.1"),
        ("calm: Calm.", "'<calm>': Calm.", "markers.mood.values.<calm>"),
        ("  stars:", "  Stars:", "markers.Stars"),
        ("maximum: 5", "maximum: 0", "markers.stars"),
        ("definition: A score.", "definition: A score.\n    applies_to: {mood: [angry]}", "taxonomy.yaml"),
        ("definition: A score.", "definition: A score.\n    applies_to: {tone: [calm]}", "taxonomy.yaml"),
        ("{calm: Calm., loud: Loud.}", "{calm: Calm., loud: Loud.}\n    examples: [{text: Hush, value: soft}]", "markers.mood"),
        ("{calm: Calm., loud: Loud.}", "{calm: Calm., loud: Loud.}\n    bounds: [3, 5]", "markers.mood"),
        ("definition: A score.", "definition: A score.\n    bounds: [3]", "markers.score"),
        ("name: small", "- small", "line"),
        (SMALL, "", "taxonomy.yaml"),
    ],
)
def test_a_malformed_file_is_an_error_that_names_the_place(tmp_path: Path, old: str, new: str, place: str) -> None:
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(TaxonomyError) as caught:
        load_taxonomy(path)
    assert place in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.fix


def test_a_missing_file_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match="no such taxonomy file") as caught:
        load_taxonomy(tmp_path / "none.yaml")
    assert "taxonomy.file" in str(caught.value)


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(TaxonomyError, match="cannot be read"):
        load_taxonomy(path)


def test_the_digest_changes_with_the_content_and_not_with_the_spelling(tmp_path: Path) -> None:
    digest = load_taxonomy(write(tmp_path, SMALL)).digest
    assert load_taxonomy(write(tmp_path, "# a remark\n" + SMALL.replace("  score:", "\n  score:"))).digest == digest
    assert load_taxonomy(write(tmp_path, SMALL.replace("maximum: 5", "maximum: 6"))).digest != digest
