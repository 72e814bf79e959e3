"""Headers of cards, and results as the Hub reads them, checked with the library's own classes."""

import pytest
import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, parse_eval_result_entries

from avt_distill.sharing.metadata import (
    NOTHING,
    Stated,
    check_eval_results,
    data_set_names,
    data_set_type,
    encoder_on_hub,
    is_hub_name,
    needed_versions,
    size_category,
    starting_point,
    state_in_header,
    write_eval_results,
)
from modeling_avt.versions_avt import MINIMUM_OF_VIDEOS, MINIMUM_VERSIONS

OTHER = {"license": "other", "license_name": "research-only", "license_link": "LICENSE"}


def write_card(folder, dataset: str, **data):
    """Writes a card with two metrics on a data set."""
    of_data = {"dataset_type": dataset, "dataset_name": "EGTEA Gaze+", "dataset_config": "split1"}
    of_data |= {"dataset_split": "test", "dataset_args": {"tau_a": "0.5"}, "metric_args": {"seed": 3}}
    metrics = {"Top-1 accuracy": ("accuracy", 41.25), "Class-mean top-5 recall": ("recall", 79.12)}
    results = [
        EvalResult("video-classification", metric_type=kind, metric_value=value, metric_name=name, **of_data)
        for name, (kind, value) in metrics.items()
    ]
    header = ModelCardData(model_name="avt", eval_results=results, **data)
    ModelCard(f"---\n{header.to_yaml()}\n---\n\n# Mine\n\n--- text: stays ---\n").save(folder / "README.md")


def test_results_are_entries_of_a_data_set_on_the_hub(tmp_path):
    write_card(tmp_path, "user/egtea")
    write_eval_results(tmp_path)
    (file,) = (tmp_path / ".eval_results").iterdir()
    assert file.name == "egtea.yaml"
    check_eval_results(tmp_path)
    notes = "split test, tau_a 0.5, seed 3"
    assert parse_eval_result_entries(yaml.safe_load(file.read_text())) == [
        EvalResultEntry("user/egtea", "split1_top_1_accuracy", 41.25, notes=notes),
        EvalResultEntry("user/egtea", "split1_class_mean_top_5_recall", 79.12, notes=notes),
    ]


def test_results_of_data_that_is_not_on_the_hub_are_in_the_card_alone(tmp_path):
    write_card(tmp_path, "egtea-gaze-plus")
    write_eval_results(tmp_path)
    assert not (tmp_path / ".eval_results").exists()


def test_results_follow_the_card_and_leave_those_of_others(tmp_path):
    write_card(tmp_path, "user/first")
    write_eval_results(tmp_path)
    own = tmp_path / ".eval_results" / "own.yaml"
    own.write_text("- dataset: {id: cais/hle, task_id: hle}\n  value: 1\n")
    write_card(tmp_path, "user/second")
    write_eval_results(tmp_path)
    assert sorted(path.name for path in own.parent.iterdir()) == ["own.yaml", "second.yaml"]


@pytest.mark.parametrize("content", ["- value: 1\n", "- dataset: {id: a/b}\n  value: 1\n", "text", "- [", "3"])
def test_results_that_the_hub_would_leave_out_are_named(tmp_path, content):
    (tmp_path / ".eval_results").mkdir()
    (tmp_path / ".eval_results" / "own.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"own\.yaml holds no results as the Hub reads them"):
        check_eval_results(tmp_path)


def test_what_is_stated_goes_into_a_header_and_leaves_the_text(tmp_path):
    write_card(tmp_path, "egtea-gaze-plus", license="mit", tags=["mine"])
    path = tmp_path / "README.md"
    state_in_header(path, Stated(**OTHER, dataset="user/egtea", base_model="user/base"))
    card = ModelCard.load(path)
    assert card.text == "\n# Mine\n\n--- text: stays ---\n"
    assert {name: card.data[name] for name in OTHER} == OTHER
    assert (card.data.datasets, card.data.base_model, card.data.tags) == (["user/egtea"], "user/base", ["mine"])
    assert {result.dataset_type for result in card.data.eval_results} == {"user/egtea"}
    state_in_header(path, Stated(license="mit"))
    assert ModelCard.load(path).data.to_dict().keys().isdisjoint({"license_name", "license_link"})
    before = path.read_text()
    state_in_header(path, NOTHING)
    assert path.read_text() == before


def test_a_license_is_of_one_source_as_a_whole():
    assert Stated(license="mit") | Stated(**OTHER, dataset="a/b") == Stated(license="mit", dataset="a/b")
    assert Stated(dataset="a/b") | Stated(**OTHER, dataset="c/d") == Stated(**OTHER, dataset="a/b")
    assert not NOTHING
    assert Stated(license="mit")


def test_a_card_states_names_on_the_hub_alone(tmp_path):
    write_card(tmp_path, "x", datasets=["egtea-gaze-plus", "user/egtea"], base_model="bert_recipes", license="mit")
    assert Stated.in_card(tmp_path / "README.md") == Stated(license="mit", dataset="user/egtea")
    assert Stated.in_card(tmp_path / "missing.md") == NOTHING


@pytest.mark.parametrize("content", ["---\na: [\n---\n", "---\nmodel-index: 3\n---\n", "---\ntext\n---\n"])
def test_a_card_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "README.md").write_text(content)
    with pytest.raises(ValueError, match=r"The header of .*README\.md cannot be read"):
        Stated.in_card(tmp_path / "README.md")


@pytest.mark.parametrize("name", ["here", "/data/rows", "a/b/c", "a b/c"])
def test_a_data_set_or_model_without_an_owner_is_refused(name):
    with pytest.raises(ValueError, match=rf"--hub_dataset is '{name}': give a repository on the Hub, USER/NAME"):
        Stated(dataset=name)
    with pytest.raises(ValueError, match="--base_model is"):
        Stated(base_model=name)


def test_titles_become_what_the_hub_takes():
    titles = {"EGTEA Gaze+": "egtea-gaze-plus", "50 Salads": "50-salads", "EPIC-Kitchens-100": "epic-kitchens-100"}
    titles["Videos of one's own"] = "videos-of-ones-own"
    assert {title: data_set_type(title) for title in titles} == titles
    assert all(map(is_hub_name, titles.values()))
    assert data_set_names("EGTEA Gaze+", NOTHING) == ["egtea-gaze-plus"]
    assert data_set_names("Videos of one's own", NOTHING) is None
    assert data_set_names("Videos of one's own", Stated(dataset="user/salads")) == ["user/salads"]


def test_only_a_model_on_the_hub_is_a_base_model():
    settings = {"backbone": "google/vit", "backbone_content": {}, "teacher": None}
    assert starting_point(settings, "backbone", "backbone_content") == "google/vit"
    in_folder = {"backbone": "runs/vit", "backbone_content": {"model.safetensors": "0"}}
    assert starting_point(in_folder, "backbone", "backbone_content") is None
    assert starting_point({"backbone": "google/vit"}, "backbone", "backbone_content") is None  # no origin is recorded
    assert starting_point(settings, "teacher", "teacher_content") is None
    assert encoder_on_hub({"model": "google/vit", "revision": "0" * 40}) == "google/vit"
    for record in (None, {"model": "vit", "revision": "0" * 16}, {"model": "vit", "revision": None}):
        assert encoder_on_hub(record) is None


def test_sizes_are_the_hubs():
    sizes = {0: "n<1K", 999: "n<1K", 1_000: "1K<n<10K", 99_999: "10K<n<100K", 5_000_000: "1M<n<10M"}
    assert {count: size_category(count) for count in sizes} == sizes


def test_versions_are_those_that_a_checkpoint_checks():
    of_features, of_videos = needed_versions(reads_videos=False), needed_versions(reads_videos=True)
    for name, version in MINIMUM_VERSIONS.items():
        assert f"{name} {version}" in of_features
    assert of_features.endswith("or newer.")
    assert of_videos == f"{of_features[:-1]}; for videos also av {MINIMUM_OF_VIDEOS['av']} or newer."
