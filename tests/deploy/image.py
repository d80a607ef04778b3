"""A Dockerfile as instructions, as far as this project writes one (no heredocs).

``problems`` says what is wrong with ``deploy/Dockerfile`` without building it.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
DOCKERIGNORE = ROOT / ".dockerignore"

#: All that Docker knows, but for the deprecated MAINTAINER and for ADD, which fetches and unpacks.
KEYWORDS = {
    *("FROM", "ARG", "ENV", "LABEL", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "VOLUME"),
    *("STOPSIGNAL", "HEALTHCHECK", "SHELL", "ONBUILD", "ENTRYPOINT", "CMD"),
}


@dataclass(frozen=True)
class Instruction:
    """One instruction; ``text`` is what follows the keyword and its flags."""

    keyword: str
    flags: tuple[str, ...]
    text: str

    def words(self) -> list[str]:
        """Of the exec form its strings, else the words of the line."""
        if self.text.startswith("["):
            loaded: list[str] = json.loads(self.text)
            return loaded
        return shlex.split(self.text)

    def is_exec(self) -> bool:
        """Whether it is run without a shell, which would not pass signals on."""
        return self.text.startswith("[")


def parse(text: str) -> list[Instruction]:
    """The instructions in order; a comment ends with its line, even inside an instruction."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [_instruction(line.strip()) for line in joined.splitlines() if line.strip()]


def _instruction(line: str) -> Instruction:
    keyword, _, rest = line.partition(" ")
    flags = []
    while match := re.match(r"\s*(--[a-z-]+(?:=\S+)?)\s+", rest):
        flags.append(match[1])
        rest = rest[match.end() :]
    return Instruction(keyword, tuple(flags), rest.strip())


def stages(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    """Each from its FROM on; the last one is the image."""
    found: list[list[Instruction]] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def last(stage: Sequence[Instruction], keyword: str) -> Instruction | None:
    """The one that counts."""
    return next((found for found in reversed(stage) if found.keyword == keyword), None)


def copied(stage: Sequence[Instruction]) -> dict[PurePosixPath, str]:
    """Where in the image which path of the repository lies."""
    folder = PurePosixPath("/")
    found = {}
    for instruction in stage:
        if instruction.keyword == "WORKDIR":
            folder /= instruction.text
        if instruction.keyword == "COPY" and not instruction.flags:
            *sources, target = instruction.words()
            into = target.endswith("/")
            for source in sources:
                there = folder / target / PurePosixPath(source).name if into else folder / target
                found[there] = source
    return found


def tracked() -> list[str]:
    """Every file of the repository, as git knows it."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")


def sent_to_builder() -> list[str]:
    """What ``.dockerignore`` lets through; nothing else, since its first rule is ``*``."""
    lines = DOCKERIGNORE.read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    if rules[0] != "*":
        raise ValueError(f"{DOCKERIGNORE.name}: expected * first, found {rules[0]}")
    return [rule.removeprefix("!") for rule in rules if rule.startswith("!")]


def problems(text: str) -> list[str]:
    """What is wrong with it."""
    instructions = parse(text)
    unknown = {i.keyword for i in instructions} - KEYWORDS
    if unknown:
        return [f"unknown or unwanted instructions: {sorted(unknown)}"]
    image = stages(instructions)[-1]
    return [*_base_problems(instructions), *_source_problems(instructions), *_run_problems(image)]


def _base_problems(instructions: Sequence[Instruction]) -> Iterator[str]:
    for stage in stages(instructions):
        name, tag = (stage[0].words()[0].rpartition(":")[i] for i in (0, 2))
        if not name or tag == "latest":
            yield f"FROM {stage[0].text}: expected a tag other than latest"
        body = " ".join(instruction.text for instruction in stage[1:])
        for argument in (i.text.partition("=")[0] for i in stage if i.keyword == "ARG"):
            if not re.search(rf"\$\{{?{argument}\b", body):
                yield f"ARG {argument} is never used"
    for secret in (i.text for i in instructions if i.keyword in ("ENV", "ARG")):
        if re.search(r"KEY|TOKEN|SECRET|PASSWORD", secret):
            yield f"{secret}: a secret would stay in the image"


def _source_problems(instructions: Sequence[Instruction]) -> Iterator[str]:
    files = tracked()
    allowed = sent_to_builder()
    for stage in stages(instructions):
        for source in copied(stage).values():
            if not any(file == source or file.startswith(f"{source}/") for file in files):
                yield f"COPY {source}: not in the repository"
            if not any(source == rule or source.startswith(f"{rule}/") for rule in allowed):
                yield f"COPY {source}: {DOCKERIGNORE.name} keeps it from the builder"


def _run_problems(image: Sequence[Instruction]) -> Iterator[str]:
    user = last(image, "USER")
    if user is None or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.text):
        yield "USER: expected numbers of a user and a group other than 0"
    check = last(image, "HEALTHCHECK")
    if check is None or not check.text.startswith("CMD "):
        yield "HEALTHCHECK: expected one with a command"
    if last(image, "STOPSIGNAL") is None:
        yield "STOPSIGNAL: expected one, said aloud"
    entry = last(image, "ENTRYPOINT")
    if entry is None or not entry.is_exec():
        yield "ENTRYPOINT: expected the exec form, so that signals arrive"
