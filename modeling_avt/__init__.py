"""The model, its configuration, time sampling, video reading, the processor, the reader, the pipeline and streams.

This folder, and nothing else, is copied into checkpoints as remote code. Transformers finds the files by
following `from .name import ...` line by line, so the folder stays flat and every import between its files has that
form.
"""

from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_avt import AVTConfig
from .modeling_avt import AVTForAnticipation, AVTModel
from .outputs_avt import AVTAnticipationOutput, AVTModelOutput
from .pipeline_avt import ActionAnticipationPipeline
from .reader_avt import HistoryReader
from .streaming_avt import AVTStream
from .video_processing_avt import AVTVideoProcessor

# Enables `pipeline("action-anticipation", model=model)` with a model object; checkpoints name their pipeline
# themselves.
PIPELINE_REGISTRY.register_pipeline(
    "action-anticipation", pipeline_class=ActionAnticipationPipeline, pt_model=AutoModel, type="video"
)

__all__ = [
    "AVTAnticipationOutput",
    "AVTConfig",
    "AVTForAnticipation",
    "AVTModel",
    "AVTModelOutput",
    "AVTStream",
    "AVTVideoProcessor",
    "ActionAnticipationPipeline",
    "HistoryReader",
]
