"""Releases that are too old are refused by name, and every release loads all files of a checkpoint."""

import re
import sys
from importlib import metadata

import pytest
from helpers.places import PROJECT
from helpers.tiny_models import tiny_config, tiny_processor, tiny_vit_config

from modeling_avt import AVTConfig, AVTVideoProcessor, versions_avt, video_source_avt

RING_1 = PROJECT / "modeling_avt"
LOADED_BY_NAME = ("configuration_avt", "modeling_avt", "pipeline_avt", "video_processing_avt")


@pytest.mark.parametrize(
    ("name", "found", "remedy"),
    [
        ("transformers", "4.56.2", "pip install --upgrade 'transformers>=4.57'"),
        ("torch", "2.5.1+cu124", "pip install --upgrade 'torch>=2.6'"),
        ("numpy", "1.25.0", "pip install --upgrade 'numpy>=1.26'"),
        ("Python", "3.9.18", "use a newer one"),
    ],
)
def test_an_old_release_is_refused_with_what_to_do(name, found, remedy, monkeypatch):
    versions = dict.fromkeys(versions_avt.MINIMUM_VERSIONS, "99.0") | {name: found}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    monkeypatch.setattr(versions_avt.platform, "python_version", lambda: versions["Python"])
    needed = versions_avt.MINIMUM_VERSIONS[name]
    sentence = f"This model needs {name} {needed} or newer, and {found} is installed: {remedy}."
    with pytest.raises(ImportError, match=f"^{re.escape(sentence)}$"):
        versions_avt.check_versions(versions_avt.MINIMUM_VERSIONS)


def test_the_oldest_releases_themselves_are_taken(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: f"{versions_avt.MINIMUM_VERSIONS[name]}.0")
    monkeypatch.setattr(versions_avt.platform, "python_version", lambda: "3.10.0")
    versions_avt.check_versions(versions_avt.MINIMUM_VERSIONS)


def test_an_old_pyav_is_refused_where_a_video_is_read(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "14.4.0")
    video_source_avt.import_av.cache_clear()
    with pytest.raises(ImportError, match=r"needs av 15\.0 or newer, and 14\.4\.0 is installed"):
        video_source_avt.import_av()
    monkeypatch.undo()
    assert video_source_avt.import_av() is sys.modules["av"]


def test_a_checkpoint_first_reports_releases_that_are_too_old(tmp_path, clean_process):
    tiny_config().save_pretrained(tmp_path)
    code = f"""
from importlib import metadata
found = metadata.version
metadata.version = lambda name: "4.30.0" if name == "transformers" else found(name)
from transformers import AutoConfig
try:
    AutoConfig.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)
except ImportError as error:
    print(error)
"""
    assert clean_process(code) == (
        "This model needs transformers 4.57 or newer, and 4.30.0 is installed: "
        "pip install --upgrade 'transformers>=4.57'.\n"
    )


def test_the_built_in_pipeline_is_refused_where_it_would_pick_other_frames(tmp_path, monkeypatch):
    tiny_vit_config().save_pretrained(tmp_path)
    AVTConfig.from_pretrained(tmp_path, _from_pipeline="video-classification")
    monkeypatch.setattr(metadata, "version", lambda name: "5.14.0")
    with pytest.raises(ImportError, match=r"^Use pipeline\('action-anticipation'\): .* needs transformers 5\.15 or"):
        AVTConfig.from_pretrained(tmp_path, _from_pipeline="video-classification")
    AVTConfig.from_pretrained(tmp_path, _from_pipeline="action-anticipation")


def siblings(name: str) -> set[str]:
    """Returns the files that transformers collects with one, by its regular expression."""
    return set(re.findall(r"^\s*from\s+\.(\S+)\s+import", (RING_1 / f"{name}.py").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", LOADED_BY_NAME)
def test_files_that_are_loaded_by_name_import_all_files_they_need(name):
    """Up to 5.4, transformers copies the files that a file imports, but not those that these import in turn."""
    needed, new = set(), {name}
    while new:
        needed |= new
        new = set().union(*map(siblings, new)) - needed
    assert needed - {name} <= siblings(name)


def test_configurations_differ_by_their_own_fields():
    assert tiny_config() == tiny_config()
    assert tiny_config() != tiny_config(tau_a=2.0)
    assert tiny_vit_config() != tiny_config()


def test_a_processor_is_saved_for_every_auto_class_and_loads_from_both_files(tmp_path):
    processor = tiny_processor(num_frames=7)
    processor.save_pretrained(tmp_path)
    saved = tmp_path / "video_preprocessor_config.json"
    place = "video_processing_avt.AVTVideoProcessor"
    assert AVTVideoProcessor.from_json_file(saved).auto_map == {"AutoProcessor": place, "AutoVideoProcessor": place}
    assert AVTVideoProcessor.from_pretrained(tmp_path).to_dict() == processor.to_dict()
    saved.rename(tmp_path / "preprocessor_config.json")
    assert AVTVideoProcessor.from_pretrained(tmp_path).num_frames == 7
    assert AVTVideoProcessor.from_pretrained(tmp_path, num_frames=5).num_frames == 5
    loaded, unused = AVTVideoProcessor.from_pretrained(tmp_path, other=1, return_unused_kwargs=True)
    assert (loaded.num_frames, unused["other"]) == (7, 1)
    with pytest.raises(ValueError, match="num_frames is 0"):
        AVTVideoProcessor.from_pretrained(tmp_path, num_frames=0)


def test_a_missing_processor_is_named(tmp_path):
    with pytest.raises(OSError, match=r"video_preprocessor_config\.json"):
        AVTVideoProcessor.from_pretrained(tmp_path)
