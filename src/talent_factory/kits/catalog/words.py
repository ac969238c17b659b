"""Find kits by words: whole words first, then beginnings, then parts of words, then what was mistyped.

Ranking is bm25 (Robertson & Zaragoza 2009) as SQLite's FTS5 computes it, a match in a kit's name weighing
more than one in its prompts.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from talent_factory.kits.catalog.choice import Wish

# name, token, tags, description, author, captions, prompts
_WEIGHTS = "8.0, 8.0, 4.0, 3.0, 2.0, 1.5, 1.0"
_WORD = re.compile(r"[^\W_]+")
MAX_QUERY_WORDS = 16
MAX_QUERY_CHARS = 400
# Words that a mistyped one may stand for; more would find everything.
_ALTERNATIVES = 6


class Hit(NamedTuple):
    """A kit that was found: its folder, how well it fits (higher is better), and words read differently.

    `instead` are pairs of a word as asked and what was found for it.
    """

    id: str
    score: float
    instead: tuple[tuple[str, str], ...] = ()


def find(database: sqlite3.Connection, text: str, *, wish: Wish, limit: int) -> list[Hit]:
    """Return at most `limit` kits that hold all words of `text`, else those that hold some, best first.

    The last letters of a word may be missing. A word that no kit holds is looked for inside longer words,
    then among the words that differ by one or two letters.
    """
    asked = [word.casefold() for word in _WORD.findall(text[:MAX_QUERY_CHARS])][:MAX_QUERY_WORDS]
    if not asked:
        return []
    groups: list[tuple[str, ...]] = []
    instead: list[tuple[str, str]] = []
    terms: list[str] = []
    for word in dict.fromkeys(asked):
        if _occurs(database, word):
            groups.append((word,))
            continue
        terms = terms or [term for (term,) in database.execute("SELECT term FROM vocabulary")]
        near = _near(terms, word)
        instead += [(word, other) for other in near]
        groups.append(tuple(near))
    known = [group for group in groups if group]
    if not known:
        return []
    for link in (" AND ", " OR ") if len(known) > 1 else (" AND ",):
        hits = _match(database, link.join(map(_phrase, known)), wish, limit)
        if hits:
            return [Hit(name, score, tuple(instead)) for name, score in hits]
    return []


def _phrase(group: Sequence[str]) -> str:
    """One word of the query in FTS5's language; the whole word counts beside its beginning."""
    return "(" + " OR ".join(f'"{word}" OR "{word}"*' for word in group) + ")"


def _match(database: sqlite3.Connection, query: str, wish: Wish, limit: int) -> list[tuple[str, float]]:
    clause, values = wish.where()
    rows = database.execute(
        f"SELECT folder, -bm25(words, {_WEIGHTS}) AS score FROM words JOIN kits ON kits.number = words.rowid"
        f" WHERE words MATCH ? AND {clause} ORDER BY score DESC, folder LIMIT ?",
        [query, *values, limit],
    )
    return [(os.fsdecode(folder), float(score)) for folder, score in rows]


def _occurs(database: sqlite3.Connection, word: str) -> bool:
    query = f'"{word}"*'
    return (
        database.execute("SELECT 1 FROM words WHERE words MATCH ? LIMIT 1", (query,)).fetchone() is not None
    )


def _near(terms: Sequence[str], word: str) -> list[str]:
    """Those of `terms` that contain `word`, else those that it may have been meant for, nearest first."""
    if len(word) < 3:
        return []
    inside = [term for term in terms if word in term]
    if inside:
        return sorted(inside, key=lambda term: (len(term), term))[:_ALTERNATIVES]
    if word.isdecimal():
        return []
    allowed = 1 if len(word) < 6 else 2
    letters = _letters(word)
    # each edit changes the set of letters by two at most: this leaves a few hundred to compare
    close = [
        term
        for term in terms
        if abs(len(term) - len(word)) <= allowed and (_letters(term) ^ letters).bit_count() <= 2 * allowed
    ]
    scored = sorted((distance(word, term, limit=allowed), term) for term in close)
    best = next((number for number, _ in scored), allowed + 1)
    return [term for number, term in scored if number == best <= allowed][:_ALTERNATIVES]


def _letters(word: str) -> int:
    mask = 0
    for letter in word:
        mask |= 1 << (ord(letter) & 63)
    return mask


def distance(first: str, second: str, *, limit: int) -> int:
    """Return how many letters to add, drop, change or swap with the next; `limit` + 1 when more than `limit`.

    The optimal string alignment form of Damerau (1964).
    """
    before: list[int] = []
    last = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        row = [i]
        for j, other in enumerate(second, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
        before, last = last, row
    return min(last[-1], limit + 1)
