"""Reading rows, targets and groups from files."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from metafe.cli.images import read_images
from metafe.cli.reporting import warn_line
from metafe.contracts import Encoder, InvalidInputError, kind_of_input
from metafe.encoding import PACKAGES, choose_encoder, has_encoder
from metafe.folders import Folder, find_files
from metafe.plugins import resolve

_SHOWN = 5


@dataclass(frozen=True)
class Request:
    """What to read from a file.

    Parameters
    ----------
    target, groups : str or None
        Names of columns or arrays.
    ignore : sequence of str
        Columns to leave out.
    image_size : (int, int) or None
        Height and width to resize images to.
    encoder : "auto", str, Encoder or None
        What an extractor that is to be fitted has for one.
    extractor : MetaFeatureExtractor or None
        Rows are read as it needs them: the columns that it was fitted on, images of its size and colours.
    """

    target: str | None = None
    groups: str | None = None
    ignore: Sequence[str] = ()
    image_size: tuple[int, int] | None = None
    encoder: Any = "auto"
    extractor: Any = None


@dataclass(frozen=True)
class Rows:
    """Rows, with what is known of each.

    Parameters
    ----------
    X : ndarray of shape (n, ...), polars.DataFrame, or list of str
        Numbers; or a table, text or paths of files for an encoder.
    known : polars.DataFrame of n rows
        Target, groups and file names, in the types of the file.
    target, groups : str or None
        Their columns in ``known``.
    encoder : Encoder or None
        What must encode images for them to become as large as was asked for.
    """

    X: Any
    known: pl.DataFrame = field(default_factory=pl.DataFrame)
    target: str | None = None
    groups: str | None = None
    encoder: Encoder | None = None

    @property
    def y(self) -> np.ndarray | None:
        """The target, of shape (n,) or (n, n_targets); an InvalidInputError where it has gaps."""
        return None if self.target is None else _labels(self.known[self.target])

    @property
    def group_labels(self) -> np.ndarray | None:
        """The groups, of shape (n,); an InvalidInputError where they have gaps."""
        return None if self.groups is None else _labels(self.known[self.groups])


def read(path: Path, request: Request) -> Rows:
    """Read a CSV or Parquet file, an ``.npz`` archive, or a folder of images or sound files.

    Parameters
    ----------
    path : Path
    request : Request

    Returns
    -------
    Rows

    Raises
    ------
    InvalidInputError
        Missing or damaged files, an unknown suffix, unknown columns, columns that are not numbers, missing values.
    """
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.75)
        hint = f"Did you mean {str(path.parent / close[0])!r}?" if close else "Check the path."
        raise InvalidInputError(f"DATA must be a file or folder that exists; got {str(path)!r}. {hint}")
    if path.is_dir():
        return _read_folder(path, request)
    readers = {".csv": _read_table, ".parquet": _read_table, ".npz": _read_arrays}
    if path.suffix.lower() not in readers:
        raise InvalidInputError(
            f"DATA must end in {', '.join(readers)} or be a folder of images or sound files; got {str(path)!r}. "
            "Convert it to one of them."
        )
    return readers[path.suffix.lower()](path, request)


def _read_folder(path: Path, request: Request) -> Rows:
    _refuse_options(path, request)
    folder = find_files(path, None if request.extractor is None else _kind_of_files(request.extractor))
    paths = [str(file) for file in folder.paths]
    if folder.kind == "sound files":
        if request.image_size is not None:
            warn_line("--image-size is for images and has no effect on sound files.")
        return _rows_of(folder, paths)
    if request.extractor is not None:
        if _for_encoder(folder.kind, request):
            return _rows_of(folder, paths)
        return _rows_of(folder, read_images(folder.paths, None, request.extractor.input_shape_))
    if request.encoder is None or (request.encoder == "auto" and not has_encoder(folder.kind)):
        return _rows_of(folder, read_images(folder.paths, request.image_size))
    if request.image_size is None:
        return _rows_of(folder, paths)
    encoder = _of_size(choose_encoder(request.encoder, paths), request.image_size)
    X = read_images(folder.paths, request.image_size) if encoder is None else paths
    return _rows_of(folder, X, encoder)


def _of_size(encoder: Encoder | None, size: tuple[int, int]) -> Encoder | None:
    """Return the encoder of images set to a size; None where it cannot make images of this one."""
    if encoder is None or size[0] != size[1] or not {"side", "resize"} <= set(encoder.get_params()):
        return None
    return encoder.set_params(side=size[0], resize="stretch")


def _rows_of(folder: Folder, X: Any, encoder: Encoder | None = None) -> Rows:
    known = {"file": folder.files} | ({} if folder.classes is None else {"class": folder.classes})
    target = None if folder.classes is None else "class"
    return Rows(X, pl.DataFrame(known), target=target, encoder=encoder)


def _kind_of_files(extractor: Any) -> str:
    """Return the kind of files that an extractor takes: images, unless it was fitted on sound."""
    return "sound files" if _reads(extractor) == "sound files" else "image files"


def _for_encoder(kind: str, request: Request) -> bool:
    """Tell whether what is read goes through an encoder: the one it was fitted with, or one that is installed."""
    return has_encoder(kind) if request.extractor is None else _reads(request.extractor) == kind


def _reads(extractor: Any) -> str | None:
    encoder = getattr(extractor, "encoder_", None)
    return None if encoder is None else encoder.reads


def _refuse_options(path: Path, request: Request) -> None:
    given = {"--target": request.target, "--groups": request.groups, "--ignore": request.ignore}
    used = [option for option, value in given.items() if value]
    if used:
        raise InvalidInputError(
            f"A folder of files has a class per sub-folder and no columns; got {used[0]} for {str(path)!r}. "
            "Leave it out."
        )


def _read_table(path: Path, request: Request) -> Rows:
    frame = _parse_table(path)
    named = {
        "--target": request.target,
        "--groups": request.groups,
        **{f"--ignore {name}": name for name in request.ignore},
    }
    for option, name in named.items():
        if name is not None and name not in frame.columns:
            raise InvalidInputError(
                f"{option.split()[0]} must be a column of {path.name}; got {name!r}. {_suggest(name, frame.columns)}"
            )
    known = frame.select(_distinct([request.target, request.groups]))
    features = frame.drop(_distinct(named.values()))
    features = _as_in_fit(features, path, request.extractor)
    if not features.width or not features.height:
        raise InvalidInputError(
            f"DATA must have rows and feature columns; got {features.height} rows and {features.width} in {path.name}."
        )
    if features.width == 1 and _is_for_text(request):
        features = _as_text(features, path)
    return Rows(_numbers_or_raw(features, request), known, request.target, request.groups)


def _numbers_or_raw(features: pl.DataFrame, request: Request) -> Any:
    """Return numbers; or text, where a single column holds it, or a table with gaps and words, for an encoder."""
    if features.width == 1 and features.dtypes[0] == pl.String and _for_encoder("text", request):
        return features.to_series().to_list()
    if _is_for_text(request):
        raise InvalidInputError(
            "DATA must have a single column of text beside target and groups; got "
            f"{_listed(features.columns)}. Name the target with --target, groups with --groups, and leave out any other "
            "with --ignore."
        )
    if _for_encoder("table", request) and (request.extractor is not None or kind_of_input(features) == "table"):
        return features
    _check_numbers(features)
    _check_complete(features)
    return _to_numbers(features)


def _is_for_text(request: Request) -> bool:
    """Tell whether text is asked for: by the extractor that takes it, or by the name of an encoder."""
    if request.extractor is not None:
        return _reads(request.extractor) == "text"
    is_open = request.encoder is None or (isinstance(request.encoder, str) and request.encoder == "auto")
    return not is_open and resolve("encoder", request.encoder).reads == "text"


def _as_text(features: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return a column as it is written: digits, dates and truth values are text too, with their leading zeros."""
    if path.suffix.lower() == ".parquet":
        return features.cast(pl.String)
    return _read_csv(path, dict.fromkeys(features.columns, pl.String)).select(features.columns)


def _parse_table(path: Path) -> pl.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path)
        return _read_csv(path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidInputError(f"DATA must be readable as {path.suffix[1:]}; got {str(path)!r}: {reason}") from error


def _read_csv(path: Path, types: Mapping[str, Any] | None = None) -> pl.DataFrame:
    return pl.read_csv(path, separator=_separator(path), infer_schema_length=None, schema_overrides=types)


def _separator(path: Path) -> str:
    """Return what separates the headings of a CSV file: a comma, unless there are more semicolons or tabs."""
    with path.open(encoding="utf-8", errors="replace") as file:
        heading = file.readline()
    return max(",;\t", key=heading.count)


def _as_in_fit(features: pl.DataFrame, path: Path, extractor: Any) -> pl.DataFrame:
    """Return the columns that the extractor was fitted on, in its order."""
    names = getattr(extractor, "feature_names_in_", None)
    if names is None:
        return features
    if missing := [name for name in names if name not in features.columns]:
        raise InvalidInputError(
            f"DATA must have the columns that the extractor was fitted on; {path.name} lacks {_listed(missing)}. "
            "Add them."
        )
    if extra := [name for name in features.columns if name not in set(names)]:
        raise InvalidInputError(
            f"DATA must have no columns but those that the extractor was fitted on; {path.name} has {_listed(extra)} "
            "too. Name the target with --target, groups with --groups, and leave out any other with --ignore."
        )
    return features.select(list(names))


def _check_numbers(features: pl.DataFrame) -> None:
    text = [name for name, dtype in features.schema.items() if not (dtype.is_numeric() or dtype == pl.Boolean)]
    if text:
        examples = {name: features[name].drop_nulls().head(1).to_list() for name in text[:_SHOWN]}
        shown = ", ".join(
            f"{name!r} (such as {str(v[0])!r})" if v else f"{name!r} (empty)" for name, v in examples.items()
        )
        more = f" and {len(text) - _SHOWN} more" if len(text) > _SHOWN else ""
        raise InvalidInputError(
            f"Feature columns must hold numbers; got {shown}{more}. Leave them out with --ignore {text[0]!r}, "
            f"name the one to predict with --target, or run: pip install {_package_for(features)}"
        )


def _check_complete(features: pl.DataFrame) -> None:
    numbers = features.with_columns(pl.selectors.float().fill_nan(None)).null_count().row(0)
    gaps = [f"{name!r} ({n} of {features.height})" for name, n in zip(features.columns, numbers, strict=True) if n]
    if gaps:
        more = f" and {len(gaps) - _SHOWN} more" if len(gaps) > _SHOWN else ""
        raise InvalidInputError(
            f"Feature columns must have no missing values; got some in {', '.join(gaps[:_SHOWN])}{more}. "
            f"Fill them, drop those rows or columns, or run: pip install {PACKAGES['table']}"
        )


def _package_for(features: pl.DataFrame) -> str:
    return PACKAGES["text" if features.width == 1 else "table"]


def _to_numbers(features: pl.DataFrame) -> pl.DataFrame:
    return features.with_columns(pl.selectors.boolean().cast(pl.UInt8), pl.selectors.decimal().cast(pl.Float64))


def _read_arrays(path: Path, request: Request) -> Rows:
    if request.ignore:
        raise InvalidInputError(
            f"--ignore names columns, and {path.name} has arrays without names for theirs. Leave it out."
        )
    arrays = _load_arrays(path)
    wanted = {"--target": request.target or ("y" if "y" in arrays else None), "--groups": request.groups}
    for option, name in ("DATA", "X"), *wanted.items():
        if name is not None and name not in arrays:
            raise InvalidInputError(f"{option} needs the array {name!r} in {path.name}. {_suggest(name, arrays)}")
    X = arrays["X"]
    known = {name: arrays[name] for name in _distinct(wanted.values())}
    lengths = {name: len(array) if array.ndim else 0 for name, array in {"X": X, **known}.items()}
    if len(set(lengths.values())) > 1 or X.ndim < 2:
        shapes = ", ".join(f"{name} {arrays[name].shape}" for name in lengths)
        raise InvalidInputError(
            f"Arrays of {path.name} must have one entry for each row, and X two dimensions or more; got {shapes}."
        )
    return Rows(
        X, pl.DataFrame([_series(name, array) for name, array in known.items()]), wanted["--target"], wanted["--groups"]
    )


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInputError(
            f"DATA must be an .npz archive of numbers and strings, without pickled objects; got {str(path)!r}: {error}"
        ) from error


def _series(name: str, array: np.ndarray) -> pl.Series:
    return pl.Series(name, array.astype(str).tolist() if array.dtype.kind in "SU" else array)


def _labels(series: pl.Series) -> np.ndarray:
    n_gaps = series.null_count() + (int(series.is_nan().sum()) if series.dtype.is_float() else 0)
    if n_gaps:
        raise InvalidInputError(
            f"Column {series.name!r} must have no missing values; got {n_gaps} of {len(series)}. "
            "Fill them, or drop those rows."
        )
    if series.dtype.is_numeric() or series.dtype == pl.Boolean or isinstance(series.dtype, pl.Array):
        return series.to_numpy()
    return np.array([str(label) for label in series.to_list()])


def _distinct(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name is not None))


def _suggest(name: str, available: Iterable[str]) -> str:
    """Name the close match and the first few of what there is; a table may have thousands of columns."""
    known = list(available)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    question = f"Did you mean {close[0]!r}? " if close else ""
    return f"{question}Available: {_listed(known)}."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(str(name)) for name in names[:_SHOWN]) + more
