"""Ring 1: the model, its configuration, time sampling, video reading, the processor, the pipeline and streams.

Everything in this folder, and nothing else, travels with a checkpoint as remote code. Transformers finds the files by
following `from .name import ...` line by line, so the folder stays flat and every import between its files has that
form.
"""

from .configuration_avt import AVTConfig
from .modeling_avt import AVTAnticipationOutput, AVTForAnticipation, AVTModel, AVTModelOutput
from .pipeline_avt import ActionAnticipationPipeline
from .streaming_avt import AVTStream
from .video_processing_avt import AVTVideoProcessor

__all__ = [
    "AVTAnticipationOutput",
    "AVTConfig",
    "AVTForAnticipation",
    "AVTModel",
    "AVTModelOutput",
    "AVTStream",
    "AVTVideoProcessor",
    "ActionAnticipationPipeline",
]
