"""What every answer and request body has in common."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Word = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=1_000)]
"""Text that every database takes: PostgreSQL refuses NUL."""
Number = Annotated[int, Field(ge=0, lt=2**63)]
"""The number of a row: no database takes a larger one."""


class Answer(BaseModel):
    """Read from the attributes of rows and views."""

    model_config = ConfigDict(from_attributes=True)


class Body(BaseModel):
    """An unknown field is an error: a misspelt option must not be silently ignored."""

    model_config = ConfigDict(extra="forbid")


class Page(Answer, Generic[Item]):
    """`next` is the `after` of the following page, null on the last."""

    items: list[Item]
    next: str | None = None


class Problem(BaseModel):
    """`field` names what was wrong, `limit` the bound it broke."""

    code: str
    message: str
    field: str | None = None
    limit: str | int | float | None = None


class Failure(BaseModel):
    error: Problem
