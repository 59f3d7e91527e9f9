"""Teaching: what comes of it, and what stops it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.training.teaching.conftest import CENTERS, disc

from napari_sam.core.masks import mask_of
from napari_sam.errors import ModelError, OutputError
from napari_sam.models import load_predictor
from napari_sam.models.compact import Compact
from napari_sam.models.compact.candidate_scorer import UsualSize
from napari_sam.models.safe_load import load_weights, save_weights
from napari_sam.models.sam import build
from napari_sam.segmenter import Segmenter, model_names
from napari_sam.testing import FakePredictor
from napari_sam.training.prompts import PromptBatch
from napari_sam.training.teaching import __main__ as in_process
from napari_sam.training.teaching import lesson as lessons_of
from napari_sam.training.teaching import run as running
from napari_sam.training.teaching.journals import TaughtImage
from napari_sam.training.teaching.lesson import Lesson, TeachOptions
from napari_sam.training.teaching.measuring import held_back as measuring
from napari_sam.training.teaching.measuring.alone import Alone
from napari_sam.training.teaching.measuring.held_back import Figures
from napari_sam.training.teaching.networks.trainers import TaughtCompact
from napari_sam.training.teaching.process import LessonProcess
from napari_sam.training.teaching.run import StoppedError, Teaching
from napari_sam.training.teaching.teach import BUSY, lesson_of, lessons, only_lesson, teach
from napari_sam.training.trainers import SamTrainer
from napari_sam.weights.taught import base_of, export_model, import_model, read_card, taught_model, taught_models

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def few_steps(monkeypatch):
    """Steps that take no time, on crops of two objects."""
    monkeypatch.setattr(running, "LEAST_STEPS", 3)
    monkeypatch.setattr(running, "MOST_STEPS", 3)
    monkeypatch.setattr(running, "TIMED", 1)
    full = running.teaching_options

    def small(*arguments):
        return running.replace(full(*arguments), batch=1, objects=2, rounds=1, side=64)

    monkeypatch.setattr(running, "teaching_options", small)


@pytest.fixture
def measured(monkeypatch):
    """Figures that a test chooses: those before, and those of every model afterwards."""
    chosen = {"before": 0.5, "after": 0.7}

    def measure(regions, held, predictor):
        value = chosen["after" if predictor.digest.startswith(("taught", "check")) else "before"]
        count = sum(int(one.sum()) for one in held)
        spread = np.linspace(-0.05, 0.05, count)
        return Figures(value + spread, value + 0.1 + spread, value + 0.1 + spread)

    monkeypatch.setattr(running, "measured", measure)
    quick_elsewhere(monkeypatch)
    return chosen


def quick_elsewhere(monkeypatch, others=lambda digest: 0.8):
    """Figures of other images, and of what is found alone, that take no time."""

    def rehearse(predictor):
        return Figures(*np.full((3, 4), others(predictor.digest.partition("/")[0])))

    def alone(regions, held, predictor):
        return Alone(*((3, 1, 2) if predictor.digest.startswith("taught") else (2, 2, 2)), is_complete=True)

    monkeypatch.setattr(running, "rehearsed", rehearse)
    monkeypatch.setattr(running, "found_alone", alone)


def test_a_better_model_is_kept_by_name_with_its_card(journal, few_steps, measured, own_models, image):
    seen = []
    result = teach(journal, "mine", threads=1, report=seen.append)
    assert result.is_better
    assert result.text == (
        "mine is better: first click 0.50 -> 0.70, all objects F1 0.50 -> 0.67 on 2 objects it has not seen; "
        "other images 0.80 -> 0.80."
    )
    assert (result.objects, result.corrected, result.held_back, result.steps) == (10, 2, 2, 3)
    assert {now["phase"] for now in seen} == {"measuring", "training", "better"}
    assert [path.name for path in own_models.iterdir()] == ["mine.safetensors"]
    model = taught_model("mine")
    assert model.base == "compact"
    assert model.card["images"] == [{"name": "discs.tif", "objects": 10}]
    assert model.card["before"]["click_1"] == 0.5
    assert (model.card["before"]["everything"], model.card["after"]["everything"]) == (0.5, 0.6667)
    assert (model.card["after"]["everything_measure"], model.card["share"]) == ("F1", 1.0)
    assert "by 10 objects of 1 image: first click 0.50 -> 0.70" in model.summary
    assert model_names()[-1] == "mine"
    base, taught = load_predictor("compact", threads=1), load_predictor("mine", threads=1)
    assert (taught.name, taught.digest != base.digest) == ("mine", True)
    # The journal of what it makes says which model that was.
    with Segmenter(image, model=taught, journal=own_models / "j") as segmenter:
        segmenter.accept(segmenter.segment(points=[CENTERS[0]]))
        assert segmenter.journal.object(1).parts[0].made.model == "mine"
        assert segmenter.journal.object(1).parts[0].made.model_digest == taught.digest


def test_a_model_that_is_not_better_is_not_kept_and_the_earlier_one_stays(journal, few_steps, measured, own_models):
    teach(journal, "mine", threads=1)
    before = (own_models / "mine.safetensors").read_bytes()
    measured["after"] = 0.45
    result = teach(journal, "mine", threads=1, seed=1)
    assert not result.is_better
    assert (
        "mine is not better (first click 0.50 -> 0.45, all objects F1 0.50 -> 0.67 on 2 objects it has not seen)"
        in result.text
    )
    assert (own_models / "mine.safetensors").read_bytes() == before
    assert lessons() == []


def test_teaching_changes_the_weights_and_always_begins_from_the_base_model(journal, few_steps, measured, own_models):
    teach(journal, "one", threads=1)
    teach(journal, "two", model="one", threads=1)
    one, two = (load_weights(own_models / f"{name}.safetensors") for name in ("one", "two"))
    base = load_weights(load_path("compact"))
    assert base_of("two") == "compact"
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key].float(), base[key].float()) for key in one)
    assert one.keys() == base.keys()


def load_path(name):
    from napari_sam.weights.registry import REGISTRY

    return REGISTRY[name].path


def begun(journal, name="mine", **options):
    regions = TaughtImage.of(journal).regions(0, is_complete=False)
    return Lesson.begin(lesson_of(name).folder, TeachOptions(name, threads=1, **options), ["discs.tif"], regions)


def test_a_lesson_that_was_stopped_goes_on_to_the_same_weights(journal, few_steps, measured, own_models, monkeypatch):
    teach(journal, "straight", threads=1)
    lesson = begun(journal, "broken")
    take_step = running.take_step

    def stop_after_two(state, *arguments):
        figures = take_step(state, *arguments)
        if state.step == 1:
            lesson.stop()
        return figures

    monkeypatch.setattr(running, "take_step", stop_after_two)
    with pytest.raises(StoppedError):
        Teaching(lesson, lambda now: None).run()
    assert lesson.progress["phase"] == "stopped"
    assert lesson.progress["step"] == 2
    assert [each.options.name for each in lessons()] == ["broken"]
    result = teach(None, "broken", threads=1)
    assert result.steps == 3
    straight, broken = (load_weights(own_models / f"{name}.safetensors") for name in ("straight", "broken"))
    assert all(torch.equal(straight[key], broken[key]) for key in straight)


def test_objects_that_are_deleted_meanwhile_do_not_reach_the_lesson(journal, image):
    lesson = begun(journal)
    with Segmenter(image, model=load_predictor("compact", threads=1), labels=journal, journal=True) as segmenter:
        for label in range(1, 11):
            segmenter.delete(label)
    (region,) = lesson.regions()
    assert len(region.numbers) == 10


def test_two_trainings_at_once_are_refused_with_a_sentence(journal, few_steps, measured):
    with only_lesson(), pytest.raises(OutputError) as refusal:
        teach(journal, "mine", threads=1)
    assert str(refusal.value) == BUSY
    assert lessons() == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("compact", "already"), ("../mine", "letters"), ("", "letters"), (".mine", "letters"), (3, "letters")],
)
def test_names_that_are_no_names_are_refused(journal, name, message):
    with pytest.raises(ModelError, match=message):
        teach(journal, name)


def test_a_model_that_cannot_be_taught_is_refused_before_the_objects_are_read(journal, tmp_path):
    with pytest.raises(ModelError, match="There is no model"):
        teach(journal, "mine", model="nothing")
    with pytest.raises(ModelError, match="no lesson of mine"):
        teach(None, "mine")


def test_a_full_disk_is_an_error_and_leaves_no_lesson(journal, monkeypatch, few_steps):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lessons_of.np, "savez", full)
    with pytest.raises(OutputError, match="disk full"):
        teach(journal, "mine")
    assert lessons() == []


def test_a_process_that_is_killed_says_so_and_the_next_one_goes_on(journal, few_steps, measured):
    lesson = begun(journal)
    lesson.stop()
    process = LessonProcess(lesson)
    assert process.is_running
    assert not lesson.must_stop
    process.kill()
    assert not process.is_running
    assert process.progress["phase"] == "killed"
    assert "teach again to go on" in process.progress["message"]
    assert teach(None, "mine", threads=1).is_better


def test_a_process_says_in_its_progress_why_it_failed(tmp_path, pixels, monkeypatch):
    with Segmenter(pixels, model=FakePredictor(), journal=tmp_path / "own") as segmenter:
        segmenter.accept(mask_of(disc(CENTERS[0])), plane=segmenter.plane())
        regions = list(TaughtImage.of(segmenter).regions(0, is_complete=False))
    lesson = Lesson.begin(lesson_of("one").folder, TeachOptions("one", threads=1), ["array"], regions)
    nice = []
    monkeypatch.setattr(in_process.os, "nice", nice.append, raising=False)
    assert in_process.main(lesson.folder) == 1
    assert nice == [in_process.NICE]
    assert lesson.progress["phase"] == "failed"
    assert "needs 8 objects or more, and there is 1" in lesson.progress["message"]


def test_models_are_exported_and_imported_as_one_file(journal, few_steps, measured, tmp_path, run):
    teach(journal, "mine", threads=1)
    export_model("mine", tmp_path / "file.safetensors")
    assert read_card(tmp_path / "file.safetensors")["objects"] == 10
    with pytest.raises(ModelError, match="named mine already"):
        import_model(tmp_path / "file.safetensors")
    assert run("models", "--remove", "mine").code == 0
    assert taught_models() == []
    assert run("models", "--import", tmp_path / "file.safetensors").code == 0
    listed = json.loads(run("models", "--json").out)
    assert listed[-1]["name"] == "mine"
    assert listed[-1]["taught"]["held_back"] == 2
    assert "first click 0.50 -> 0.70" in listed[-1]["good for"]
    assert "mine" in run("models").out
    assert run("models", "--export", "mine", tmp_path / "again.safetensors").code == 0
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "file.safetensors").read_bytes()
    refused = run("models", "--import", load_path("compact"))
    assert refused.code == 1
    assert "no taught model" in refused.err


def test_the_command_teaches_and_writes_its_figures(journal, few_steps, measured, run, monkeypatch):
    cut = []
    monkeypatch.setattr(running.Lesson, "discard", lambda self: cut.append(self.regions()) if self.exists else None)
    result = run("teach", journal, "--name", "mine", "--threads", "1", "--json", "--complete-area", "0,0,100,320")
    assert result.code == 0, result.err
    assert (cut[-1][0].objects[:100] == 0).any()
    assert (cut[-1][0].objects[100:] != 0).all()
    refused = run("teach", journal, "--name", "mine", "--complete-area", "0,0,100")
    assert refused.code == 1
    assert "--complete-area" in refused.err
    figures = json.loads(result.out)
    assert figures["is_better"] is True
    assert figures["after"]["click_1"] == 0.7
    measured["after"] = 0.4
    worse = run("teach", journal, "--name", "other", "--threads", "1")
    assert worse.code == 0
    assert "other is not better" in worse.out
    assert taught_model("other") is None


def test_nothing_is_learned_where_nothing_is_known_but_what_was_guessed_there():
    torch.manual_seed(0)
    trainer = TaughtCompact(Compact())
    trainer.train()
    pixels = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    features = trainer.encode(pixels)
    unknown = np.full((1, 64, 64), -1, np.int32)
    loss = trainer.dense(features, unknown, np.random.default_rng(0))
    known = trainer.dense(features, np.zeros((1, 64, 64), np.int32), np.random.default_rng(0))
    head, base = trainer.head.region.weight, torch.autograd.grad(loss, trainer.head.region.weight, retain_graph=True)[0]
    (background,) = torch.autograd.grad(known, head)
    # The guesses are those of the base model still, so there is nothing to change, unlike towards background.
    assert float(base.abs().max()) < 1e-4 * float(background.abs().max())
    prompts = PromptBatch(torch.full((1, 2, 2), 20.0), torch.ones(1, 2, dtype=torch.int64), torch.zeros(1, 16, 16))
    logits, _ = trainer.decode(features, 1, prompts)
    assert logits.shape[-2:] == (16, 16)


@pytest.fixture
def one_watched(monkeypatch):
    """One of the ten objects is watched, although there are few; the figures of each check, and at the end."""
    monkeypatch.setattr(measuring, "FEWEST_TO_WATCH", 4)
    quick_elsewhere(monkeypatch)
    scores, seen = {"check": iter([]), "last": 0.55}, {}

    def measure(regions, held, predictor):
        name = predictor.digest.partition("/")[0]
        seen.setdefault(name, []).append((predictor._network.prompt_encoder.state_dict(), sum(map(sum, held))))
        value = next(scores["check"]) if name == "check" else 0.7 if "taught" in name else scores.get(name, 0.5)
        return Figures(*np.full((3, sum(int(one.sum()) for one in held)), value))

    monkeypatch.setattr(running, "measured", measure)
    return scores, seen


def test_the_usual_size_is_part_of_a_model_that_is_better_with_it(
    journal, few_steps, measured, own_models, monkeypatch, image
):
    measure = running.measured

    def better_with_size(regions, held, predictor):
        found = measure(regions, held, predictor)
        return Figures(found.click_1 + 0.1, found.click_3, found.box) if "sized" in predictor.digest else found

    monkeypatch.setattr(running, "measured", better_with_size)
    result = teach(journal, "mine", threads=1)
    assert result.knows_size
    assert result.after["click_1"] == pytest.approx(0.8)
    log_area = load_weights(own_models / "mine.safetensors")["usual_size.log_area"]
    assert float(log_area[0]) == pytest.approx(np.log(np.pi * 18**2), abs=0.05)
    # And a click asks for it.
    adjusted, full = [], UsualSize.adjusted
    monkeypatch.setattr(UsualSize, "adjusted", lambda *arguments: (adjusted.append(1), full(*arguments))[1])
    Segmenter(image, model="mine", threads=1).segment(points=[CENTERS[0]])
    assert adjusted


def test_an_earlier_point_of_the_curve_is_taken_where_the_watched_objects_were_better(
    journal, few_steps, one_watched, own_models
):
    scores, seen = one_watched
    scores["check"] = iter([0.6, 0.66])
    result = teach(journal, "mine", threads=1)
    assert [figures["click_1"] for _, figures in result.curve] == [0.5, 0.6, 0.66, 0.7]
    assert [count for _, count in seen["check"]] == [3, 3]
    assert [count for _, count in seen["last"]] == [1]
    best, taken = seen["check"][1][0], seen["taught at 1"][0][0]
    assert all(torch.equal(best[key], taken[key]) for key in best)
    assert not all(torch.equal(seen["last"][0][0][key], taken[key]) for key in best)


def test_it_ends_early_where_the_watched_objects_no_longer_gain(journal, few_steps, one_watched, own_models):
    one_watched[0]["check"] = iter([0.501, 0.499])
    result = teach(journal, "mine", threads=1)
    assert (result.steps, result.is_better) == (2, True)


def test_the_decoder_of_a_mobile_sam_is_taught_and_its_encoder_sees_each_crop_once(
    journal, few_steps, measured, monkeypatch, tmp_path, own_models
):
    torch.manual_seed(0)
    weights = build("vit_t").state_dict()
    save_weights(
        {key: value for key, value in weights.items() if "idxs" not in key}, tmp_path / "t.safetensors", family="vit_t"
    )
    monkeypatch.setattr(running, "MOST_ENCODED", 1)
    seen, encode = [], SamTrainer.encode
    monkeypatch.setattr(SamTrainer, "encode", lambda self, pixels: (seen.append(len(pixels)), encode(self, pixels))[1])
    full = running.teaching_options
    monkeypatch.setattr(running, "teaching_options", lambda *arguments: replace(full(*arguments), side=None))
    result = teach(journal, "mine", model=tmp_path / "t.safetensors", threads=1)
    assert result.steps == 3
    assert seen == [1]
    taught = load_weights(own_models / "mine.safetensors")
    before, after = ({key: value.half().float() for key, value in state.items()} for state in (weights, taught))
    changed = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
    assert changed == {"prompt_encoder", "mask_decoder"}
