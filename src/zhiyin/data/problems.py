"""What is wrong with data: collected while it is checked, never raised one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from zhiyin.data.description import FILE_NAME, Description
from zhiyin.data.files.raw import N_ROWS_NAMED, RawTable
from zhiyin.data.rules import RULES
from zhiyin.domain.errors import DataError


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Nothing can be trained before it is mended."""
    WARNING = "warning"
    """Rows or values were cleaned, or are strange; the report says what was done."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, for all rows where it is.

    Attributes:
        kind: A stable name, such as ``missing_id``; that of the cleaning rule where one is at work.
        severity: Error, warning or note.
        place: File, and column where there is one.
        message: What is wrong.
        done: What was done about it; empty for errors.
        remedy: What the user can do.
        n_rows: How many rows it is about; 0 when it is about the whole file.
        rows: The first ten of them, as ``7`` or ``items-1.csv:7``, counting data rows from 1.
    """

    kind: str
    severity: Severity
    place: str
    message: str
    done: str = ""
    remedy: str = ""
    n_rows: int = 0
    rows: tuple[str, ...] = ()


@dataclass
class Findings:
    """The problems found so far. The one mutable thing of a check."""

    description: Description = field(default_factory=Description)
    problems: list[Problem] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether the data cannot be used."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)

    def error(self, kind: str, place: str, message: str, remedy: str = "") -> None:
        """Add something that stops."""
        self.problems.append(Problem(kind, Severity.ERROR, place, message, remedy=remedy))

    def warn(self, kind: str, place: str, message: str, *, done: str = "", remedy: str = "") -> None:
        """Add something about a whole file or column that does not stop."""
        self.problems.append(Problem(kind, Severity.WARNING, place, message, done, remedy))

    def note(self, kind: str, place: str, message: str, remedy: str = "") -> None:
        """Add something good to know."""
        self.problems.append(Problem(kind, Severity.NOTE, place, message, remedy=remedy))

    def raised(self, kind: str, place: str, error: DataError) -> None:
        """Add an error that was raised."""
        remedy = "\n".join(part for part in (error.possible, error.remedy) if part)
        self.error(kind, place, error.problem, remedy)

    def settle(
        self,
        rule: str,
        raw: RawTable,
        rows: npt.NDArray[np.integer],
        message: str,
        *,
        column: str = "",
        sentence: str = "",
    ) -> str:
        """Report rows that a cleaning rule is about, and say what is to be done with them.

        Args:
            rule: Name of the rule.
            raw: The table.
            rows: Positions in the table's frame.
            message: What is wrong with these rows.
            column: Which column it is about.
            sentence: What was done, where the rule's own sentence does not fit.

        Returns:
            The action: ``drop``, ``keep``, ….
        """
        self.counted(rule, raw, raw.rows_named(rows), len(rows), message, column=column, sentence=sentence)
        return self.description.action(rule)

    def counted(
        self,
        rule: str,
        raw: RawTable | str,
        rows: Sequence[str],
        n_rows: int,
        message: str,
        *,
        column: str = "",
        sentence: str = "",
    ) -> None:
        """Report rows that a cleaning rule is about, when only their names and number are known."""
        action = self.description.action(rule)
        stops = action == "error"
        label = raw if isinstance(raw, str) else raw.label
        others = [name for name in RULES[rule].actions if name != action]
        choices = " or ".join(f'"{name}"' for name in others)
        self.problems.append(
            Problem(
                rule,
                Severity.ERROR if stops else Severity.WARNING,
                f"{label}, column {column}" if column else label,
                message,
                done="" if stops else sentence or RULES[rule].actions[action],
                remedy=f"Mend the file, or write in {FILE_NAME}:  [cleaning]  {rule} = {choices}"
                if stops
                else f"Otherwise write in {FILE_NAME}:  [cleaning]  {rule} = {choices}",
                n_rows=n_rows,
                rows=tuple(rows[:N_ROWS_NAMED]),
            )
        )


def rows_of(n: int, verb_one: str, verb_many: str) -> str:
    """Say ``1 row has`` or ``1,200 rows have``."""
    return f"1 row {verb_one}" if n == 1 else f"{n:,} rows {verb_many}"
