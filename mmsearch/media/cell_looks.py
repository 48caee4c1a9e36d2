"""What a person sees of a number in a cell of Excel: a date, a time, a share, or the number."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

# Formats that Excel has itself (ECMA-376, 18.8.30).
_DATES = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
_SHARES = frozenset((9, 10))
_QUOTED = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_DATE_CODE = re.compile(r"[dmyhs]", re.IGNORECASE)
_MAX_FORMATS = 100_000
_LAST_DAY = 2_958_466  # the 31st of December 9999, and one


class Looks:
    """Which cells hold dates and shares: their styles, by number. A ``zipped.Handler``."""

    def __init__(self, since_1904: bool) -> None:
        self._first = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30)
        self._codes: dict[int, str] = {}
        self._styles: list[int] = []  # number of a style -> number of its format
        self._in_styles = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        number = attributes.get("numFmtId", "0")
        if name == "numFmt" and number.isdigit() and len(self._codes) < _MAX_FORMATS:
            self._codes[int(number)] = attributes.get("formatCode", "")
        elif name == "cellXfs":
            self._in_styles = True
        elif name == "xf" and self._in_styles and len(self._styles) < _MAX_FORMATS:
            self._styles.append(int(number) if number.isdigit() else 0)

    def end(self, name: str) -> None:
        """See ``Handler``."""
        if name == "cellXfs":
            self._in_styles = False

    def data(self, text: str) -> None:
        """See ``Handler``."""

    def shown(self, value: str, style: str) -> str:
        """A number as it is shown in a cell of a style; dates as ISO 8601 has them."""
        at = int(style) if style.isdigit() else 0
        format = self._styles[at] if at < len(self._styles) else 0
        code = _QUOTED.sub("", self._codes.get(format, ""))
        try:
            number = float(value)
        except ValueError:
            return value
        if format in _DATES or _DATE_CODE.search(code.partition(";")[0]):
            return self._date(number, value)
        if format in _SHARES or "%" in code:
            return f"{number * 100:.10g}%"
        return value

    def _date(self, number: float, value: str) -> str:
        if not 0 <= number < _LAST_DAY:
            return value
        moment = self._first + timedelta(seconds=round(number * 86_400))
        if number < 1:
            return f"{moment:%H:%M:%S}".removesuffix(":00")
        return f"{moment:%Y-%m-%d}" if number == int(number) else f"{moment:%Y-%m-%d %H:%M}"
