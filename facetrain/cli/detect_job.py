"""One call of `facetrain detect`, step by step: what is written, what is looked at, what is said meanwhile."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from facetrain.cli import console
from facetrain.cli.text.detect import Told, covered_text, image_text, sought_text, summary_text, video_text
from facetrain.core.errors import FacetrainError, UsageError
from facetrain.core.files import sha256
from facetrain.core.machine import available_cores
from facetrain.core.words import count
from facetrain.detect.detector import FaceDetector
from facetrain.detect.looked import Ending, Looked, Output, Wishes
from facetrain.detect.outputs.json import JsonDocument
from facetrain.detect.outputs.jsonl import JsonLines
from facetrain.detect.run import Counting, Ended, Outcome, detect_sources
from facetrain.detect.save import Save, check_saves, make_places, parse_save, places_of
from facetrain.detect.selection import Selection
from facetrain.detect.shards import Shard
from facetrain.detect.sink import STDOUT
from facetrain.detect.tracking import Tracker
from facetrain.detect.window import Window, check_display
from facetrain.media.cut import Cut
from facetrain.media.find import Found, find_sources
from facetrain.media.frame import Failure

_MOST_WORKERS = 16
_MANY = 100  # videos; more are not opened beforehand to count their frames


@dataclass
class DetectJob:
    """The steps in their order: `prepare`, `find`, `open`, `look`, `finish`.

    wishes, selection: what was asked for; score: as it was given, None where it was not; track: number faces
    """

    wishes: Wishes
    score: float | None
    min_face: float | None
    selection: Selection
    track: bool
    json: bool = field(init=False)
    show: bool = field(init=False)
    saves: list[Save] = field(init=False)
    drawn: Path | None = field(init=False, default=None)  # the folder of --output, or what stands for it
    found: Found = field(init=False)
    outputs: list[Output] = field(init=False, default_factory=list)
    told: Told = field(init=False, default_factory=Told)
    failures: list[Failure] = field(init=False)
    _counting: Counting = field(init=False)
    _detector: FaceDetector = field(init=False)
    _sources: int = field(init=False, default=0)  # that are through
    _last: Looked | None = field(init=False, default=None)  # of a source that is not through
    _unsaid: list[Failure] = field(init=False, default_factory=list)

    def prepare(self, save: Sequence[str], output: str | None, *, draw: bool | None, json: bool, show: bool) -> None:
        """Say where results go. Raises UsageError for options that contradict each other."""
        if output == "":
            raise UsageError("--output is empty", "name a folder, or leave it out for ./detections")
        if draw is False and output is not None:
            raise UsageError("--no-draw and --output exclude each other", "leave one of them out")
        if show:
            check_display()
        self.json, self.show = json, show
        self.saves = [parse_save(text) for text in save]
        asked = output is not None or not (json or self.saves or show)
        if asked if draw is None else draw:
            plain = parse_save(f"drawn={output or 'detections'}", "output")
            self.drawn = plain.place.path
            self.saves.insert(0, plain)
        check_saves(self.saves, self.wishes)
        if json and self.streams:
            raise UsageError(f"--json and --save {self.streams[0].name}=- both go to standard output")
        rules = self.wishes.rules
        tracker = Tracker(rules["score"]) if self.track else None
        if self.saves and not (json or show) and all(save.faintest is not None for save in self.saves):
            rules["score"] = self._look_from()  # where covers are all that is made, as much counts as is covered
        self._counting = Counting(rules["score"], self.selection, tracker)

    def _look_from(self) -> float:
        """The score from which faces are looked for: covers have to miss none."""
        if self.score is not None:
            return self.score
        return min([self.wishes.rules["score"], *(save.faintest for save in self.saves if save.faintest is not None)])

    @property
    def streams(self) -> list[Save]:
        """Results that go to standard output."""
        return [save for save in self.saves if save.place.path == STDOUT]

    @property
    def lines(self) -> bool:
        """Whether each image or video has a line on standard output."""
        return not self.json and not self.streams

    def find(self, paths: Sequence[str], cut: Cut, shard: Shard) -> None:
        """What the paths mean. Ends the command where wrong paths are all there is."""
        found = find_sources(paths, places_of(self.saves), cut)
        sources = [source for source in found.sources if shard.holds(source.name)]
        failures = [failure for failure in found.failures if shard.holds(failure.path) or not sources]
        self.found = Found(sources, failures, found.skipped)
        self.failures = list(self.found.failures)
        for failure in self.failures:
            console.say_error(failure.error)
        if self.found.skipped:
            console.say(self.found.skipped_text())
        if not self.found.sources and any(isinstance(failure.error, UsageError) for failure in self.failures):
            raise typer.Exit(UsageError.exit_code)

    def open(self, *, family: str | None, device: str, threads: int | None, batch: int) -> None:
        """Open the detector, and the outputs."""
        rules = self.wishes.rules
        detector = self._detector = FaceDetector(
            rules["weights"],
            device=device,
            score=self._look_from(),
            nms=rules["nms"],
            threads=1 if self._workers(threads, batch) > 1 else threads,
            family=family,
            size=rules["size"],
            min_face=self.min_face,
            batch=batch,
        )
        rules["score"] = max(rules["score"], detector.own_threshold)
        rules["landmark_names"] = list(detector.landmark_names)
        self.wishes.depends["weights_sha256"] = sha256(detector.path)
        self.outputs = [save.format.make(save.place, self.wishes) for save in self.saves]
        self._leave_out_what_is_done()
        if self.json:
            self.outputs.append(JsonDocument(console.write, rules, console.flush))
        if self.show:
            self.outputs.append(Window(rules["landmark_names"]))
        if self.found.sources:
            make_places(self.saves, len(self.found.sources))

    def _leave_out_what_is_done(self) -> None:
        """Raise UsageError where an output would lack what an earlier call has done."""
        if not self.wishes.resume:
            return
        if self.json:
            raise UsageError("`resume`: json would lack what was done before", "leave one of them out")
        if sum(isinstance(output, JsonLines) for output in self.outputs) > 1:
            raise UsageError("`resume`: two files of lines may hold different parts", "give one `save` jsonl=FILE")
        for save, output in zip(self.saves, self.outputs, strict=False):
            if isinstance(output, JsonLines):
                done = output.done
            elif not output.any_order or any(source.moving for source in self.found.sources):
                what = "" if not output.any_order else " of a video"
                raise UsageError(
                    f"`resume`: {save.name}{what} would lack what was done before", "leave one of them out"
                )
        if self.track and done.frames:
            raise UsageError("`resume` and `track`: who was who before is not known", "begin anew in another file")
        self._counting = replace(self._counting, after=done.frames)
        sources = [source for source in self.found.sources if not done.holds(source.name)]
        if len(sources) < len(self.found.sources):
            gone = count(len(self.found.sources) - len(sources), "source")
            console.say(f"{gone} done before")
        self.found = replace(self.found, sources=sources)

    def _workers(self, threads: int | None, batch: int) -> int:
        """Frames that are looked at side by side, by one thread each; a single image has all threads for itself.

        So many wait for a batch as are in it, and as many again are read meanwhile.
        """
        if len(self.found.sources) < 2 and not any(source.moving for source in self.found.sources):
            return 1
        return min(threads or available_cores(), _MOST_WORKERS) if batch == 1 else 2 * batch

    def look(self, threads: int | None, batch: int) -> None:
        """Look at everything, and say what comes."""
        sources = self.found.sources
        moving = [source for source in sources if source.moving]
        counts = [source.count() for source in sources] if len(moving) < _MANY else [None]
        total = None if None in counts else sum(count or 0 for count in counts)
        # lines of a result on a terminal tell enough
        shown = (len(sources) > 1 or bool(moving)) and (
            not self.lines or bool(moving) or not console.stdout_is_terminal()
        )
        begun = time.monotonic()
        done = 0
        with (
            console.progress("detect", total, shown=shown) as advance,
            closing(
                detect_sources(
                    self._detector,
                    sources,
                    self.outputs,
                    self._counting,
                    self._workers(threads, batch),
                    self._unsaid,
                )
            ) as outcomes,
        ):
            for outcome in outcomes:
                self._take(outcome)
                if isinstance(outcome, Looked):
                    done += 1
                    advance(note=f"{done / max(time.monotonic() - begun, 0.001):.0f}/s")

    def _take(self, outcome: Outcome) -> None:
        """Say what has come."""
        if isinstance(outcome, Looked):
            self.told.add(outcome)
            self._last = outcome
            if self.lines and outcome.frame.time is None:
                console.line(image_text(outcome, self.drawn))
        elif isinstance(outcome, Ended):
            self._sources += 1
            last, self._last = self._last, None
            if self.lines and outcome.frames and last is not None and last.frame.time is not None:
                console.line(video_text(outcome, last))
        else:
            self.failures.append(outcome)
            console.say_error(outcome.error)
            for output in self.outputs:
                if isinstance(output, JsonLines):
                    output.broke_off(outcome.path)

    def close(self, *, interrupted: bool) -> None:
        """All that is written is whole, as far as it was done. Raises OutputError, or BrokenPipeError of stdout."""
        errors = [console.error_entry(failure.error, failure.path) for failure in self.failures]
        ending = Ending([str(path) for path in self.found.skipped], interrupted, errors)
        failed: Exception | None = None
        outputs, self.outputs = self.outputs, []
        for output in outputs:
            try:
                output.finish(ending)
            except (FacetrainError, OSError) as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def finish(self, *, interrupted: bool) -> int:
        """Say what was done, and give the exit code."""
        for failure in self._unsaid:
            self.failures.append(failure)
            console.say_error(failure.error)
        self.close(interrupted=interrupted)
        rules = self.wishes.rules
        if self.told.images + self.told.frames and not self.json:
            console.say(sought_text(self.told, rules["size"], self.min_face))
            covers = [save for save in self.saves if save.faintest is not None]
            if covers:
                console.say(covered_text([save.name for save in covers], self._look_from(), self.score))
        last = self._last
        within = last.source.name if interrupted and last is not None and last.frame.time is not None else None
        left = len(self.found.sources) - self._sources - (within is not None) if interrupted else None
        saved = [(save.name, save.place.path) for save in self.saves if save not in self.streams]
        summary = summary_text(self.told, saved, len(self.failures), left, within)
        asked = 0.5 if self.score is None else self.score
        own = self._detector.own_threshold
        if own > asked:
            summary += f"; at score {own:g}, below which the file itself drops faces, not at {asked:g}"
        if self.streams:
            console.say(summary)
        elif not self.json:
            console.line(summary)
        if interrupted:
            return 130
        return 1 if self.failures else 0
