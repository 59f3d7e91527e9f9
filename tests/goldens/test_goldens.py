"""What must not change while the package is rearranged: names, formats, digests and labels.

The values are in the JSON files beside this module, written by `record.py`.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from tests.goldens import sessions
from tests.goldens.sessions import described, recorded

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Journals and embeddings of other tests are not found."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


def test_the_public_names_are_the_recorded_ones_in_the_same_order():
    assert sessions.public_api()["all"] == recorded("api")["all"]


def test_every_public_signature_is_the_recorded_one():
    found, expected = sessions.public_api()["signatures"], recorded("api")["signatures"]
    # New methods may come; what is there stays.
    assert {name: found.get(name, "missing") for name in expected} == expected


def test_every_command_has_the_recorded_arguments_and_options():
    assert sessions.commands() == recorded("commands")


@pytest.mark.skipif(
    version("typer") != recorded("help")["typer"], reason="another version of typer lays help texts out differently"
)
@pytest.mark.parametrize("name", recorded("help")["texts"])
def test_every_help_text_is_the_recorded_one(name):
    assert sessions.help_texts()[name] == recorded("help")["texts"][name]


@pytest.mark.skipif(find_spec("yaml") is None, reason="PyYAML is not installed")
def test_the_manifest_has_the_recorded_ids_and_preference_keys():
    assert sessions.manifest_ids() == recorded("manifest")


def test_the_source_names_the_recorded_environment_variables():
    assert sessions.environment_variables() == recorded("environment")


@pytest.mark.parametrize("name", sessions.JOURNALS)
def test_a_stored_journal_opens_with_the_recorded_objects_labels_and_undo_steps(name, tmp_path):
    with sessions.opened_journal(name, tmp_path) as segmenter:
        assert segmenter.journal.trouble is None
        assert sessions.journal_state(segmenter) == recorded("journals")[name]


@pytest.mark.parametrize("name", sessions.JOURNALS)
def test_a_stored_journal_has_the_same_objects_when_it_is_opened_a_second_time(name, tmp_path):
    with sessions.opened_journal(name, tmp_path) as segmenter:
        labels, home = described(segmenter.labels), segmenter.journal.folder
    with sessions.Segmenter(sessions.JOURNALS[name](), model=sessions.FakePredictor(), journal=home) as segmenter:
        assert sessions.objects_of(segmenter) == recorded("journals")[name]["objects"]
        assert described(segmenter.labels) == labels


@pytest.mark.parametrize("name", sessions.JOURNALS)
def test_entries_of_a_stored_journal_become_the_same_json_again(name, tmp_path):
    lines = {line["n"]: line for line in sessions.stored_lines(name) if "n" in line}
    with sessions.opened_journal(name, tmp_path) as segmenter:
        entries = sessions.entries_as_json(segmenter)
    assert len(entries) >= 4
    assert entries == [lines[entry["n"]] for entry in entries]


def test_new_journals_have_the_recorded_json_keys(tmp_path):
    keys: set[str] = set()
    for name, write in (("work", sessions.write_array_journal), ("l.ome.zarr.journal", sessions.write_pyramid_journal)):
        write(tmp_path / name)
    for image, options in (
        (sessions.discs(), {"journal": tmp_path / "work"}),
        (sessions.volume(), {"labels": tmp_path / "l.ome.zarr", "journal": True}),
    ):
        with sessions.Segmenter(image, model=sessions.FakePredictor(), **options) as segmenter:
            keys |= sessions.journal_keys(segmenter)
    assert sorted(keys) == recorded("journals")["keys"]


@pytest.mark.parametrize("name", sessions.IMAGES)
def test_the_keys_of_tiles_are_the_recorded_ones(name):
    assert sessions.tile_digests(name) == recorded("digests")["images"][name]


def test_the_embedded_model_has_the_recorded_identity(compact):
    """It changes with the weights, and only with them: keys of embeddings are made of it."""
    assert sessions.embedded_identity(compact) == recorded("digests")["embedded model"]


def test_stored_embeddings_are_found_and_nothing_is_encoded_again(tmp_path):
    shutil.copytree(sessions.STORE, tmp_path / "store")
    assert sessions.encode_into(tmp_path / "store") == 0


def test_new_embeddings_are_stored_in_the_recorded_files(tmp_path):
    assert sessions.encode_into(tmp_path / "store") == 1
    found = sessions.files_in(tmp_path / "store")
    assert [path for path in found if path in sessions.files_in(sessions.STORE)] == sessions.files_in(sessions.STORE)


@pytest.mark.parametrize("name", sessions.SESSIONS)
def test_a_session_leaves_the_recorded_labels(name, tmp_path):
    assert described(sessions.SESSIONS[name](tmp_path)) == recorded("sessions")[name]


def test_a_session_with_the_embedded_model_leaves_the_recorded_objects(tmp_path, compact):
    found = described(sessions.embedded_model(tmp_path, compact), exact=False)
    sessions.assert_near(found, recorded("sessions")["embedded_model"], share=0.1)
