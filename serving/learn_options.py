"""What ``retrail learn`` is asked for: a file of options, and what the command line says over it.

The file is TOML with the tables ``hyper`` and ``mining``, whose keys are the fields of
``Hyperparameters`` and ``MiningOptions``; what it leaves out has its default.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from ..core.errors import ConfigError
from ..retrievers.training.hyper import Hyperparameters
from ..retrievers.training.options import MiningOptions
from .errors import bad_value

Options = TypeVar("Options", bound=BaseModel)


class LearnOptions(BaseModel):
    """All options of training and mining."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hyper: Hyperparameters = Hyperparameters()
    mining: MiningOptions = MiningOptions()

    def toml(self) -> str:
        """Write a file that says the same."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def learn_options(given: Mapping[str, Any], file: Path | None) -> LearnOptions:
    """Put together what was asked for.

    Args:
        given: What the command line says, by field; other names and None are passed over.
        file: A file of options.

    Raises:
        ConfigError: The file cannot be read, or a value is not allowed.
    """
    told = _read(file) if file else LearnOptions()
    try:
        return LearnOptions(hyper=_over(told.hyper, given), mining=_over(told.mining, given))
    except ValidationError as error:
        raise bad_value(error) from error


def _over(told: Options, given: Mapping[str, Any]) -> Options:
    fields = type(told).model_fields
    values = {name: value for name, value in given.items() if name in fields and value is not None}
    return type(told).model_validate(told.model_dump() | values)


def _read(file: Path) -> LearnOptions:
    try:
        return LearnOptions.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{str(file)!r}: {place}: {first['msg']}", fix="mend the file") from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{str(file)!r} cannot be read: {error}",
            fix="retrail learn --print-config shows what such a file holds",
        ) from error
