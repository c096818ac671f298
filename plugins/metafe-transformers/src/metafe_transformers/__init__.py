"""Pretrained encoders of text, images and sound for metafe: frozen embeddings, and networks adapted by LoRA."""

from __future__ import annotations

from metafe.contracts import Backbone, Encoder, hookimpl
from metafe_transformers.image_encoder import ImageEncoder
from metafe_transformers.image_transformer import ImageTransformer
from metafe_transformers.sound_encoder import SoundEncoder
from metafe_transformers.sound_inputs import SoundInputs
from metafe_transformers.sound_transformer import SoundTransformer
from metafe_transformers.text_encoder import TextEncoder
from metafe_transformers.tokens import Tokens
from metafe_transformers.transformer import Transformer

__all__ = [
    "ImageEncoder",
    "ImageTransformer",
    "SoundEncoder",
    "SoundInputs",
    "SoundTransformer",
    "TextEncoder",
    "Tokens",
    "Transformer",
]


@hookimpl
def metafe_register_encoders() -> list[type[Encoder]]:
    """Return the encoders of this distribution."""
    return [TextEncoder, Tokens, ImageEncoder, SoundEncoder, SoundInputs]


@hookimpl
def metafe_register_backbones() -> list[type[Backbone]]:
    """Return the backbones of this distribution."""
    return [Transformer, ImageTransformer, SoundTransformer]
