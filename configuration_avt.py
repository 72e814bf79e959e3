"""The configuration under its top-level name: the same class object as `modeling_avt.configuration_avt.AVTConfig`."""

from modeling_avt.configuration_avt import AVTConfig

__all__ = ["AVTConfig"]
