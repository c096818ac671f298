"""Saving and loading extractors without pickle.

A saved extractor is a folder. ``manifest.json`` holds names, versions and parameters, ``weights.safetensors`` holds
arrays, and scikit-learn parts lie in ``.skops`` files. Each file has a checksum in the manifest, the manifest has one
too. The checksums find damage, they are no signature; what makes an untrusted folder safe to load is that loading runs
only code of registered plugins, looked up by name, and of the types that skops or the caller trusts.

Pickle and joblib work too, as for any estimator, but unpickling runs whatever code a file asks for: never unpickle what
you do not trust.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from metafe.contracts import AdaptedSettingWarning, MetafeError, SavedFormatError, VersionMismatchWarning

if TYPE_CHECKING:
    from metafe.extractor import MetaFeatureExtractor

__all__ = ["load", "save"]


def save(extractor: MetaFeatureExtractor, folder: str | Path) -> None:
    """Write a fitted extractor to a folder, without pickle.

    Parameters
    ----------
    extractor : MetaFeatureExtractor
        Fitted. Its plugins are saved by name and parameters, so each needs a name of its own; what their `get_state`
        returns is saved beside them.
    folder : str or Path
        Made when it does not exist; a saved extractor in it is replaced. Until the new one is complete the former one
        stays whole.

    Raises
    ------
    NotFittedError
        `fit` has not been called.
    SavedFormatError
        The folder holds something else; or a parameter is neither of a JSON type nor a tuple, set, array, path, device,
        plugin, scikit-learn estimator or random generator. Torch modules and functions would need pickle.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_digits
    >>> import metafe
    >>> X, y = load_digits(return_X_y=True)
    >>> extractor = metafe.MetaFeatureExtractor("mlp", max_steps=5, random_state=0).fit(X[y < 8], y[y < 8])
    >>> with TemporaryDirectory() as parent:
    ...     extractor.save(Path(parent, "digits"))
    ...     loaded = metafe.load(Path(parent, "digits"))
    >>> bool((loaded.transform(X) == extractor.transform(X)).all())
    True
    """
    from metafe.persistence.contents import Contents
    from metafe.persistence.encoding import Encoder
    from metafe.persistence.folder import write_folder
    from metafe.persistence.versions import versions

    check_is_fitted(extractor)
    encoder = Encoder()
    try:
        encoded = encoder.encode_contents(vars(Contents.of(extractor)))
        files = encoder.files | {"weights.safetensors": encoder.weights()}
    except RecursionError as error:
        raise SavedFormatError(
            "A parameter that is saved must be finite; got one that contains itself. Set another one."
        ) from error
    write_folder(folder, {"versions": versions(), "plugins": encoder.plugins, "contents": encoded}, files)


def load(folder: str | Path, *, trusted: Sequence[str | type] = ()) -> MetaFeatureExtractor:
    """Read an extractor that was saved to a folder.

    Parameters
    ----------
    folder : str or Path
        What `MetaFeatureExtractor.save` wrote.
    trusted : sequence of str or type, default=()
        Types in scikit-learn parts that may be loaded although skops does not trust them by itself, such as classes of
        your own: ``["my_package.MyTransformer"]``. Loading runs their code, so list only what you know.

    Returns
    -------
    MetaFeatureExtractor
        Fitted, with the same parameters and the same features to the last bit. The device is chosen anew from its
        ``device`` parameter.

    Raises
    ------
    SavedFormatError
        Not a saved extractor, damaged, of a newer format, or with types that are not trusted.
    MissingDependencyError
        A plugin that is neither installed nor registered.

    Warns
    -----
    VersionMismatchWarning
        Saved with other versions of metafe, torch, scikit-learn or a plugin; features may differ.
    AdaptedSettingWarning
        The ``device`` parameter names a device that this machine lacks; it becomes ``"auto"``.

    Notes
    -----
    A folder from a stranger runs no code but that of plugins you have installed or registered. The same is not true
    of pickle and joblib files: unpickling runs whatever code they ask for.
    """
    from metafe.persistence.folder import read_folder
    from metafe.persistence.versions import check_plugins_present, mismatches

    manifest, files = read_folder(folder)
    try:
        check_plugins_present(manifest["plugins"])
        differing = mismatches(manifest["versions"], manifest["plugins"])
    except (KeyError, TypeError, AttributeError) as error:
        raise SavedFormatError(_not_restored(folder, error)) from error
    if differing:
        warnings.warn(
            f"The extractor in {str(folder)!r} should be loaded with the versions it was saved with; got "
            f"{'; '.join(differing)}. Its features may differ. Install those versions, or fit and save again.",
            VersionMismatchWarning,
            stacklevel=2,
        )
    extractor, lost_device = _restored(folder, manifest, files, trusted)
    if lost_device is not None:
        warnings.warn(
            f"device must be one of this machine; the saved extractor had {str(lost_device)!r}. device='auto' is used; "
            "set_params(device=...) chooses another.",
            AdaptedSettingWarning,
            stacklevel=2,
        )
    return extractor


def _restored(
    folder: str | Path, manifest: dict[str, Any], files: dict[str, bytes], trusted: Sequence[str | type]
) -> tuple[MetaFeatureExtractor, Any]:
    """Build the extractor; whatever goes wrong inside, a plugin's code included, is one kind of error."""
    from metafe.persistence.contents import Contents
    from metafe.persistence.decoding import Decoder

    try:
        decoder = Decoder(files, trusted)
        return Contents(**decoder.decode_contents(manifest["contents"])).build()
    except MetafeError:
        raise
    except Exception as error:
        raise SavedFormatError(_not_restored(folder, error)) from error


def _not_restored(folder: str | Path, error: Exception) -> str:
    return (
        f"The extractor in {str(folder)!r} must fit the installed plugins; got {type(error).__name__}: {error}. "
        "Load it with the versions it was saved with, or fit and save again."
    )
