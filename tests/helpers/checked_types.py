"""Run-time checks of the package's annotations in tests: arrays by jaxtyping, which costs most, only where there are some.

`jaxtyping.jaxtyped` binds the arguments of every call anew and checks them twice, so that axes of one name can be compared.
Of a function that no array is annotated in, beartype alone checks the same things in a fraction of the time, and such
functions are most of what is called outside a program.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping


def install(package: str, checker: str = "beartype.beartype") -> None:
    """Checks the annotations of a package at every call, if it is imported later.

    Args:
      package: its name.
      checker: what checks types, as `jaxtyping.install_import_hook` takes it.
    """
    jaxtyping.install_import_hook(package, checker)
    jaxtyping.jaxtyped = functools.partial(checked, jaxtyping.jaxtyped)


def checked(jaxtyped: Callable[..., Any], function: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """`jaxtyping.jaxtyped`, which it calls for classes and for functions with annotated arrays; `typechecker` for others."""
    if function is None:
        return functools.partial(checked, jaxtyped, typechecker=typechecker)
    if inspect.isfunction(function) and not any(names_arrays(its) for its in function.__annotations__.values()):
        return typechecker(function)
    return jaxtyped(function, typechecker=typechecker)


def names_arrays(annotation: Any) -> bool:
    """Whether an annotation has an array of jaxtyping's in it, or a name that is not known yet and could be one."""
    if isinstance(annotation, (str, typing.ForwardRef)):
        return True
    if isinstance(annotation, (list, tuple)):  # The arguments of a callable.
        return any(map(names_arrays, annotation))
    return getattr(annotation, "__module__", "").startswith("jaxtyping") or any(
        map(names_arrays, typing.get_args(annotation))
    )
