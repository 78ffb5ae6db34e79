"""The verdict of an audit in words made of its numbers, the same on every page and console."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxinv.attacks.attack import Attack
from jaxinv.auditing.findings import Audit, Finding, is_memory
from jaxinv.runs.text import count, listed, number, significant

# How the images that the verdict is on are called.
WORDS = {"class": "class image", "unit": "unit"}

_MOST_LINES, _MOST_NOTES = 20, 6  # Findings and notes told of on the console.


def verdict(audit: Audit) -> list[str]:
  """The verdict in a few sentences, made of the numbers; the first says the most.

  Args:
    audit: what was found.

  Returns:
    Sentences in plain text.
  """
  return [*_judged(audit), *unmixed_words(audit)]


def _judged(audit: Audit) -> list[str]:
  structured, matched = _tallies(audit, "structured"), _tallies(audit, "matched")
  if not structured:
    return _nothing_to_judge(audit)
  if audit.match:
    return [
      *_shown(audit, matched),
      f"Image-like structure is in {listed(tally.text for tally in structured)}.",
      *_beside(audit),
    ]
  unlike = f"none resembles any of {_whom(audit)} beyond chance" if audit.references else ""
  if audit.structure:
    counts = listed(tally.text for tally in structured)
    rest = f", but {unlike}" if unlike else "; no reference images were given, so whose it is was "
    rest += "" if unlike else "not asked"
    first = f"The weights hold image-like structure in {counts}{rest}."
    return [first, _seen_with(structured), *_beside(audit)]
  rest = f", and {unlike}" if unlike else ""
  return [
    f"No structure was found: {_subject(structured, 'look')} like an image, not like noise{rest}.",
    "That is no proof that there is none: see what was assumed and what was not looked at.",
  ]


def _shown(audit: Audit, matched: Sequence["_Tally"]) -> list[str]:
  """Whom the weights show, one by one or all together."""
  head = f"The weights show {'people' if audit.references.grouped else 'reference images'}"
  sentences = []
  if num := audit.unmixed_matches:
    matches = "matches" if num == 1 else "match"
    sentences = [
      f"{head}: {count(num, 'image')} that clearly {matches} a reference photograph can be read "
      f"out of {audit.unmixed.mixture}."
    ]
  if any(tally.flagged for tally in matched):
    text = f"{_subject(matched, 'resemble')} one of {_whom(audit)} beyond chance."
    sentences += [
      text if sentences else f"{head}: {text}",
      f"They show {_people_seen(audit, matched)}. {_seen_with(matched)}",
    ]
  if attack := audit.identifying:
    num = len(audit.references.people)
    own = round(audit.measures[attack]["identification"] * num)
    needs = next(it.attack.knowledge for it in audit.findings if it.attack.name == attack)
    needs = "the weights alone" if needs == "weights" else needs
    verb = "is" if own == 1 else "are"
    text = (
      f"{own} of {num} class images {verb} closest to the references of their own class, where 1 "
      f"of {num} is expected by chance ({attack}, which needs {needs})."
    )
    sentences.append(text if sentences else f"{head}: {text}")
  return sentences


def unmixed_words(audit: Audit) -> list[str]:
  """Of how many images the change of the first layer is made, and which they are.

  Args:
    audit: what was found.

  Returns:
    Sentences; none where the number is not known, of which a note tells.
  """
  found = audit.unmixed
  if found is None or not found.count.number:
    return []
  about, cliff = "about ", significant(found.count.cliff, 2)
  fall = f"there its singular values fall {cliff} times as steeply as anywhere near"
  if found.count.certain:
    about, fall = "", f"its singular values fall by a factor of {cliff} behind them"
  first = (
    f"{found.mixture[0].upper()}{found.mixture[1:]} is made of {about}"
    f"{count(found.count.number, 'image')} ({fall})."
  )
  if not len(found.images):
    return [first]
  second = (
    "They were separated, with a mean stability of "
    f"{number(found.stability.mean(), 2)} (how well independent restarts agree; 1: fully)"
  )
  if found.matched is not None:
    matches = "matches" if audit.unmixed_matches == 1 else "match"
    second += f", and {audit.unmixed_matches} clearly {matches} a reference photograph"
  return [first, f"{second}."]


def _nothing_to_judge(audit: Audit) -> list[str]:
  first = f"Nothing was looked at: no tensor fits images of {size_of(audit)}."
  if audit.findings:
    first = (
      "No image of a class or unit was looked at: only filters of convolutions fit images of "
      f"{size_of(audit)}, and filters show nobody."
    )
  return [first, "That is no proof that the weights show nothing: see what was not looked at."]


def size_of(audit: Audit) -> str:
  """The size of an image: `112 x 92 pixels, 1 channel`."""
  height, width, channels = audit.image_shape
  return f"{height} x {width} pixels, {count(channels, 'channel')}"


class _Tally(NamedTuple):
  """Of the class images, or of the units, how many an attack shows to be something.

  Attributes:
    what: `class` or `unit`.
    flagged: how many the attack shows that shows the most.
    num: of how many.
    findings: of that attack.
    plain: of the attacks that take the weights alone the best, and how many it shows.
  """

  what: str
  flagged: int
  num: int
  findings: Sequence[Finding]
  plain: tuple[str, int] | None

  @property
  def attack(self) -> Attack:
    return self.findings[0].attack

  @property
  def text(self) -> str:
    return f"{self.flagged} of {count(self.num, WORDS[self.what])}"

  @property
  def needs(self) -> str:
    return self.attack.knowledge


def _tallies(audit: Audit, flag: str) -> list[_Tally]:
  """For class images and for units, the attack that shows the most; the first of equals."""
  tallies, findings = [], _of_the_model(audit, flag)
  for what in WORDS:
    by_attack = defaultdict(list)
    for finding in findings:
      if finding.what == what:
        by_attack[finding.attack.name].append(finding)
    if not by_attack:
      continue
    totals = {a: sum(flagged(f, flag) or 0 for f in some) for a, some in by_attack.items()}
    best = max(totals, key=totals.__getitem__)
    alone = [(a, n) for a, n in totals.items() if by_attack[a][0].attack.knowledge == "weights"]
    plain = max(alone, key=lambda one: one[1], default=None)
    num = sum(len(finding.morans_i) for finding in by_attack[best])
    tallies.append(_Tally(what, totals[best], num, by_attack[best], plain))
  return tallies


def _of_the_model(audit: Audit, flag: str) -> list[Finding]:
  """Findings but those in an optimiser's memories, unless only these show something."""
  model = [it for it in audit.findings if not is_memory(it.source)]
  shows = any(flagged(it, flag) for it in model if it.what in WORDS)
  return model if model and (shows or not _in_memories(audit)) else list(audit.findings)


def _in_memories(audit: Audit) -> set[str]:
  """The tensors of an optimiser's memories that show structure."""
  return {it.source for it in audit.findings if is_memory(it.source) and flagged(it, "structured")}


def _beside(audit: Audit) -> list[str]:
  """What the file shows beside the weights."""
  tensors = _in_memories(audit)
  if not tensors or all(is_memory(it.source) for it in audit.findings):
    return []
  held = count(len(tensors), "tensor")
  return [
    f"What the optimiser remembers ({held} in the file) shows images too: release none of it."
  ]


def flagged(finding: Finding, flag: str) -> int | None:
  """How many images have a flag, `structured` or `matched`; None where that was not asked."""
  flags = getattr(finding, flag)
  return None if flags is None else int(flags.sum())


def _subject(tallies: Sequence[_Tally], verb: str) -> str:
  """The counts, with a verb that agrees with them."""
  one = len(tallies) == 1 and tallies[0].flagged == 1
  return f"{listed(tally.text for tally in tallies)} {verb}{'s' if one else ''}"


def _seen_with(tallies: Sequence[_Tally]) -> str:
  """What an attacker must hold to see it."""
  shown = [tally for tally in tallies if tally.flagged]
  if {tally.needs for tally in shown} == {"weights"}:
    attacks = listed(dict.fromkeys(tally.attack.name for tally in shown))
    return f"An attacker sees this with the weights alone ({attacks})."
  parts = []
  for tally in shown:
    needs = "the weights alone" if tally.needs == "weights" else tally.needs
    of = f"of the {WORDS[tally.what]}s " if len(shown) > 1 else ""
    text = f"{of}with {needs} ({tally.attack.name})"
    if tally.needs != "weights" and tally.plain:
      text += f", where the weights alone show {tally.plain[1]} ({tally.plain[0]})"
    parts.append(text)
  return f"An attacker sees this {listed(parts)}."


def _people_seen(audit: Audit, tallies: Sequence[_Tally]) -> str:
  """How many different people there are to be seen."""
  found = [f for tally in tallies for f in tally.findings if f.match is not None]
  seen = {int(i) for f in found for i in f.match.person[f.matched]}
  return f"{len(seen)} different {_people(audit, len(seen))}"


def _whom(audit: Audit) -> str:
  num = len(audit.references.people)
  return f"the {num} reference {_people(audit, num)}"


def _people(audit: Audit, num: int) -> str:
  one, more = ("person", "people") if audit.references.grouped else ("image", "images")
  return one if num == 1 else more


def meaning_of_alpha(audit: Audit) -> str:
  """What the flags promise, in a sentence or two."""
  share = f"{100 * audit.alpha:g} %"
  return (
    f"At alpha = {audit.alpha:g}, at most {share} of the images in which something is found are so "
    "by chance, on average; and were there nothing in any of them, the probability of finding "
    f"something even in one would be at most {share}."
  )


def coverage(audit: Audit) -> str:
  """How much of the weights was looked at."""
  left = [tensor for tensor in audit.tensors if tensor.use == "none"]
  total, unseen = (sum(values_of(t.shape) for t in some) for some in (audit.tensors, left))
  tensors = f"{count(len(audit.tensors), 'tensor')} ({count(total, 'value')})"
  if not left:
    return f"Of {tensors}, all were examined."
  if len(left) == len(audit.tensors):
    return f"Of {tensors}, none was examined."
  share = 100 * unseen / max(total, 1)
  if share < 1:
    share_text = "less than 1 %"
  else:
    share_text = "more than 99 %" if share > 99 else f"{share:.0f} %"
  return f"Of {tensors}, {len(left):,} with {share_text} of the values were not examined."


def values_of(shape: Sequence[int]) -> int:
  """How many values a tensor of this shape has."""
  return int(np.prod(shape, dtype=object)) if shape else 1


def telling(findings: Sequence[Finding], most: int) -> list[Finding]:
  """The findings that tell the most where there are many, in the order they came in.

  Args:
    findings: of one audit.
    most: how many at most.

  Returns:
    Those of the verdict before filters; of these, with more matches, then more structure first.
  """

  def key(place: int) -> tuple:
    finding = findings[place]
    found = (flagged(finding, "matched") or 0, flagged(finding, "structured"))
    return finding.what == "filter", *(-number for number in found)

  chosen = sorted(range(len(findings)), key=key)[:most]
  return [findings[place] for place in sorted(chosen)]


def summary_lines(audit: Audit) -> list[str]:
  """What the command prints at its end: the verdict, what was assumed, and a line a finding.

  Args:
    audit: what was found.

  Returns:
    Lines.
  """
  notes = [f"note: {note}" for note in dict.fromkeys(audit.notes)]
  if len(notes) > _MOST_NOTES:
    notes[_MOST_NOTES:] = [f"{count(len(notes) - _MOST_NOTES, 'note')} more in audit.json"]
  lines = [*verdict(audit), coverage(audit), *notes]
  shown = telling(audit.findings, _MOST_LINES)
  for finding in shown:
    num = len(finding.morans_i)
    counts = [f"{flagged(finding, 'structured')} structured"]
    if finding.matched is not None:
      counts.append(f"{flagged(finding, 'matched')} single out a person")
    median = f"median Moran's I {number(np.median(finding.morans_i), 2)}"
    counted = f"{count(num, finding.what)}: {', '.join([*counts, median])}"
    lines.append(f"  {finding.source}  {finding.attack.name}  {counted}")
  if len(shown) < len(audit.findings):
    lines.append(f"  and {count(len(audit.findings) - len(shown), 'finding')} more in audit.json")
  return lines
