"""README.md of a trained space folder: what it is, how well it finds, what it is not for."""

from __future__ import annotations

from typing import Any

from mmsearch.evaluation.intervals import FEW_UNITS, wilson

KS = (1, 5, 10)


def model_card(card: dict[str, Any]) -> str:
    """Markdown for people, from what ``card.json`` says to programs."""
    start = card["trained_from"]
    lines = [
        f"# {card['name']}",
        "",
        f"An embedding space of {card['dimension']} dimensions for {_and(card['modalities'])}, "
        f"trained by `mmsearch train` from `{start['start']}` ({start['digest'][:12]}). Digest "
        f"{card['digest'][:12]}. Use: `mmsearch index FOLDER --space` and this folder's path.",
        "",
        "## What it learned from",
        "",
        *(f"- {one.get('what')}: {one.get('terms', 'terms not stated')}" for one in _data(card)),
        "",
        "## How well it finds",
        "",
        *_measures(card["measured"]["held out"]),
        "",
        "## Known limits",
        "",
        *(f"- {limit}" for limit in _limits(card)),
        "",
        "## What it must not be used for",
        "",
        "- Finding out who a person is, or judging people by a picture, a voice or a text.",
        "- Deciding alone where a miss does harm: medicine, law, safety, moderation.",
        "- What the terms of the data above, or of the start, do not allow.",
    ]
    return "\n".join(lines) + "\n"


def _and(several: list[str]) -> str:
    return " and ".join([", ".join(several[:-1]), several[-1]] if several[1:] else several)


def _data(card: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in card["trained_on"] if isinstance(one, dict)]


def _measures(held: dict[str, Any]) -> list[str]:
    after, before = held["R@1, R@5, R@10"], held["R@1, R@5, R@10 before"]
    if not after:
        return ["Nothing was held out: recall was not measured."]
    rows = ["| direction | R@ | before | after | 95% interval |", "|---|---|---|---|---|"]
    for name, values in after.items():
        for i, (k, value) in enumerate(zip(KS, values, strict=True)):
            low, high = wilson(value / 100, held["independent groups"][name])
            was = f"{before[name][i]:.1f}%" if name in before else "-"
            interval = f"{100 * low:.1f}% to {100 * high:.1f}%"
            rows.append(f"| {name} | {k} | {was} | {value:.1f}% | {interval} |")
    groups = min(held["independent groups"].values())
    said = f" Fewer than {FEW_UNITS} groups: the intervals are rough." if groups < FEW_UNITS else ""
    rule = f"Found among {held['things']:,} held-out things ({held['rule']}), by exact search."
    return [f"{rule} Intervals are Wilson's over the files that were asked for.{said}", "", *rows]


def _limits(card: dict[str, Any]) -> list[str]:
    preprocess = card["preprocess"]
    limits = [
        "Recall is that among few held-out things of the same kind: among more, or others, "
        "it is lower.",
        f"A picture is squashed to {preprocess['image_px']} pixels square.",
        f"A text is read up to {card.get('max_tokens', 512)} tokens, a sound in windows of "
        f"{preprocess['window_s']:g} s.",
        "What was trained has moved away from modalities and languages that the pairs lack.",
    ]
    more = card.get("limits", [])
    return limits + ([more] if isinstance(more, str) else [str(one) for one in more])
