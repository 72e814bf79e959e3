"""A checkpoint loads, in every documented way, in a process without this package."""

import json

import pytest
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config
from transformers import Trainer, TrainingArguments

from modeling_avt import ActionAnticipationPipeline

REMOTE_CODE = {
    "answers_avt.py",
    "configuration_avt.py",
    "labels_avt.py",
    "losses_avt.py",
    "modeling_avt.py",
    "pipeline_avt.py",
    "pipeline_inputs_avt.py",
    "rules_avt.py",
    "stream_inputs_avt.py",
    "streaming_avt.py",
    "temporal_avt.py",
    "video_io_avt.py",
    "video_packets_avt.py",
    "video_processing_avt.py",
    "video_source_avt.py",
}
LOAD_EVERY_WAY = """
import json
import torch
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, pipeline

folder, again, video = {folder!r}, {again!r}, {video!r}
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
assert (config.model_type, type(processor).__name__) == ("avt", "AVTVideoProcessor")
scores = []
for auto_class in (AutoModel, AutoModelForVideoClassification):
    model = auto_class.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__name__ == "AVTForAnticipation"
    with torch.no_grad():
        scores.append(model(**processor(video)).logits[0].softmax(-1).sort(descending=True).values.tolist())

def ask(folder, task):
    pipe = pipeline(task, model=folder, trust_remote_code=True)
    return pipe, [entry["score"] for entry in pipe(video)]

anticipate, answer = ask(folder, "action-anticipation")
scores.append(answer)
scores.append(ask(folder, "video-classification")[1])
# Saving what was loaded from remote code must lose no file either.
model.save_pretrained(again)
processor.save_pretrained(again)
scores.append(ask(again, "action-anticipation")[1])
anticipate.save_pretrained(again + "_pipeline")
scores.append(ask(again + "_pipeline", "action-anticipation")[1])
scores.append(ask(again + "_pipeline", "video-classification")[1])
print(json.dumps(scores))
"""


def save_with_model(folder):
    tiny_model(tiny_vit_config()).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)


def save_with_trainer(folder):
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none")
    trainer = Trainer(model=tiny_model(tiny_vit_config()), args=arguments, processing_class=tiny_processor())
    trainer.save_model(str(folder))


def save_with_pipeline(folder):
    pipe = ActionAnticipationPipeline(model=tiny_model(tiny_vit_config()), video_processor=tiny_processor())
    pipe.save_pretrained(str(folder))


@pytest.mark.parametrize("save", [save_with_model, save_with_trainer, save_with_pipeline])
def test_checkpoint_loads_everywhere_with_the_same_scores(save, tmp_path, clean_process, video):
    folder = tmp_path / "checkpoint"
    save(folder)
    assert {path.name for path in folder.iterdir()} >= REMOTE_CODE
    code = LOAD_EVERY_WAY.format(folder=str(folder), again=str(tmp_path / "again"), video=str(video))
    scores = json.loads(clean_process(code).splitlines()[-1])
    assert len(scores) == 7
    assert all(other == scores[0] for other in scores), scores
    # Weights mapped from disk have other addresses than those in memory, which changes the last digit.
    pipe = ActionAnticipationPipeline(model=tiny_model(tiny_vit_config()), video_processor=tiny_processor())
    assert scores[0] == pytest.approx([entry["score"] for entry in pipe(str(video))], abs=1e-6)


def test_feature_checkpoint_loads_without_the_package(tmp_path, clean_process):
    tiny_model().save_pretrained(tmp_path / "checkpoint")
    code = f"""
    import torch
    from transformers import AutoModel
    model = AutoModel.from_pretrained({str(tmp_path / "checkpoint")!r}, trust_remote_code=True)
    print(model.config.backbone_config, tuple(model(video_features=torch.zeros(1, 4, 12)).logits.shape))
    """
    assert clean_process(code).splitlines()[-1] == "None (1, 5)"
