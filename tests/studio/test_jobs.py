"""Jobs: progress, cancellation, consistent state afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from engine.limits import ABANDONED_SEC
from engine.music.expression import deadpan
from engine.music.io.alignment import align
from engine.music.io.midi import write_midi
from engine.music.io.midi_bytes import parse_midi
from engine.music.types import BadInput, Score
from engine.progress import Cancelled
from engine.untrusted.scores import open_performance, open_score
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.page.answers import LAST_WAIT, NEXT_WAIT, progress
from studio.service.admission import AdmissionGate
from studio.service.jobs import Job, Jobs
from studio.service.shared_engine import LruCache, SharedEngine
from studio.state.examples import EXAMPLES
from studio.state.session import Controls, Session

LONG, SHORT = "Mozart, Sonata K. 332, i", "Chopin, Prélude op. 28 no. 7"


@pytest.fixture(scope="module")
def shared() -> SharedEngine:
    return SharedEngine()


@pytest.fixture(scope="module")
def long_score(shared: SharedEngine) -> Score:
    return shared.read_example(EXAMPLES[LONG])


def forever(job: Job) -> Callable[[], str]:
    """Work that ends only by cancellation."""
    while True:
        job.step(0.5)
        time.sleep(0.01)


def test_a_job_ends_with_what_it_shows() -> None:
    job = Jobs().start("play", "Playing", lambda job: lambda: "shown")
    assert job.wait(5)
    assert job.show is not None
    assert (job.show(), job.refusal, job.stopped) == ("shown", "", None)


def test_a_newer_job_of_a_kind_stops_the_older() -> None:
    jobs = Jobs()
    older, other = jobs.start("play", "Playing", forever), jobs.start("human", "Matching", forever)
    newer = jobs.start("play", "Playing", forever)
    assert older.wait(1)
    assert older.stopped == "overtaken"
    assert jobs.running("play") is newer
    assert jobs.running("human") is other
    assert jobs.numbered(newer.number) is newer
    assert jobs.numbered(older.number) is None
    jobs.stop(by="visitor")
    assert newer.wait(1)
    assert newer.stopped == other.stopped == "visitor"
    assert jobs.running("play") is None


def test_the_same_question_joins_the_running_job() -> None:
    jobs = Jobs()
    first = jobs.start("sound", "Preparing", forever, same="notes")
    assert jobs.start("sound", "Preparing", forever, same="notes") is first
    assert jobs.start("sound", "Preparing", forever, same="others") is not first
    jobs.stop()


def test_refusals_and_errors_are_one_sentence(capsys: pytest.CaptureFixture) -> None:
    def refuse(job: Job) -> Callable[[], str]:
        raise BadInput("This is no score.")

    def break_down(job: Job) -> Callable[[], str]:
        return [][0]

    jobs = Jobs()
    job = jobs.start("open", "Opening", refuse)
    assert job.wait(5)
    assert job.refusal == "This is no score."
    job = jobs.start("open", "Opening", break_down)
    assert job.wait(5)
    assert "went wrong" in job.refusal
    assert "IndexError" in capsys.readouterr().err
    assert jobs.numbered(jobs.refuse("No.").number).refusal == "No."  # type: ignore[union-attr]


def test_a_job_whose_page_is_closed_stops() -> None:
    job = Job()
    job.step(0.1)
    job._asked -= ABANDONED_SEC + 1
    with pytest.raises(Cancelled):
        job.step(0.2)


def test_a_late_poll_starts_an_abandoned_job_again() -> None:
    """A server under load may answer polls too late; the visitor's act must not be lost."""
    jobs, runs, go_on = Jobs(), list[int](), threading.Event()

    def work(job: Job) -> Callable[[], str]:
        runs.append(job.number)
        while not go_on.wait(0.01):
            job.step()
        return lambda: "opened"

    job = jobs.start("open", "Opening", work)
    job._asked -= ABANDONED_SEC + 1
    assert job._over.wait(5)
    assert job.stopped == "abandoned"
    go_on.set()
    again = jobs.numbered(job.number)
    assert again is not None
    assert again.wait(5)
    assert (again.number, again.stopped, runs) == (job.number, None, [job.number] * 2)
    assert again.show is not None
    assert again.show() == "opened"


def test_polls_of_a_queued_job_are_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = list[float]()
    monkeypatch.setattr(Job, "wait", lambda job, seconds: bool(waited.append(seconds)))
    for place in (0, 1, 3, 30):
        job = Job(1, "play", "Playing")
        job.place = place
        progress(Document(), job, 0)
    assert waited == [NEXT_WAIT, NEXT_WAIT, 3 * NEXT_WAIT, LAST_WAIT]


def test_a_stopped_change_is_not_made() -> None:
    document, job = Document(), Job()
    job.stop("visitor")
    with pytest.raises(Cancelled):
        document.update(job.unless_stopped(lambda now: replace(now, title="changed")))
    assert document.session.title == ""
    document.update(Job().unless_stopped(lambda now: replace(now, title="changed")))
    assert document.session.title == "changed"


def test_the_same_piece_is_performed_for_the_first_of_several_visitors() -> None:
    cache, gate, made = LruCache(4), AdmissionGate(1), list[int]()

    def make() -> int:
        made.append(1)
        time.sleep(0.05)
        return 7

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.recall_in_turn("piece", make, gate, lambda share: None), range(8)))
    assert (found, made) == ([7] * 8, [1])


def test_turns_are_taken_one_at_a_time_and_not_by_everybody() -> None:
    turns, at_once, most = AdmissionGate(1), [0], [0]

    def work() -> None:
        with turns.turn(lambda share: None):
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            time.sleep(0.002)
            at_once[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    order: list[int] = []

    def queue(number: int) -> None:
        with turns.turn(lambda share: None):
            order.append(number)

    with turns.turn(lambda share: None):
        threads = [threading.Thread(target=queue, args=(number,)) for number in range(8)]
        for number, thread in enumerate(threads):
            thread.start()
            while turns.waiting() <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(8)), "first come, first served"

    def cancel(share: float) -> None:
        raise Cancelled

    with turns.turn(lambda share: None), pytest.raises(Cancelled), turns.turn(cancel):
        pass
    with turns.turn(lambda share: None):
        pass
    full = AdmissionGate(1, most_waiting=0)
    with pytest.raises(BadInput, match="try again"), full.turn(lambda share: None):
        pass


class Queue:
    """One pianist, held until `free`; jobs of visitors that wait for a turn and note that they had it."""

    def __init__(self) -> None:
        self.turns, self.served, self._open = AdmissionGate(1), list[str](), threading.Event()
        threading.Thread(target=self._hold, daemon=True).start()
        until(lambda: self.turns._free == 0)

    def _hold(self) -> None:
        with self.turns.turn(lambda share: None):
            self._open.wait(20)

    def free(self) -> None:
        self._open.set()

    def ask(self, visitor: Jobs, kind: str, name: str) -> Job:
        """A job that waits; returns when it stands in the queue or beside it."""

        def work(job: Job) -> Callable[[], str]:
            with self.turns.turn(job.step):
                self.served.append(name)
            return lambda: name

        before = set(self.turns._line + self.turns._aside)
        job = visitor.start(kind, "Playing", work)
        until(lambda: bool(set(self.turns._line + self.turns._aside) - before))
        return job


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_visitor_waits_once_and_knows_the_place() -> None:
    queue, ann, bob, eve = Queue(), Jobs(), Jobs(), Jobs()
    ann_first = queue.ask(ann, "play", "ann, slider")
    ann_second = queue.ask(ann, "audition", "ann, take")
    bobs, eves = queue.ask(bob, "play", "bob"), queue.ask(eve, "play", "eve")
    until(lambda: [job.place for job in (ann_first, bobs, eves, ann_second)] == [1, 2, 3, 4])
    assert [job.doing for job in (ann_first, eves)] == ["Playing: next in the queue", "Playing: number 3 in the queue"]
    queue.free()
    until(lambda: ann_second.over)
    assert queue.served == ["ann, slider", "bob", "eve", "ann, take"], "a visitor's second job is not the next"
    assert (ann_second.place, ann_second.doing) == (0, "Playing")


def test_the_newest_position_of_a_slider_takes_the_place_of_the_waiting_one() -> None:
    queue, ann, bob = Queue(), Jobs(), Jobs()
    for position in range(5):
        if position == 3:  # the older has left the queue before the next one comes
            ann.stop("play")
            until(lambda: queue.turns.waiting() == 1)
        latest = queue.ask(ann, "play", f"ann {position}")
        if position == 0:
            queue.ask(bob, "play", "bob")
    until(lambda: latest.place == 1)
    queue.free()
    until(lambda: latest.over and len(queue.served) == 2)
    assert queue.served == ["ann 4", "bob"]


def test_playing_stops_at_the_next_step(shared: SharedEngine, long_score: Score) -> None:
    session = actions.open_piece(shared, Session(), long_score, LONG, Controls())
    shares, began = [], [0.0]

    def step(share: float) -> None:
        shares.append(share)
        if share:
            began[0] = time.perf_counter()
            raise Cancelled

    with pytest.raises(Cancelled):
        actions.restyle(shared, session, Controls(seed=7), step)
    assert time.perf_counter() - began[0] < 1
    assert 0 < shares[-1] < 0.5
    shares.clear()
    actions.restyle(shared, session, Controls(seed=7), shares.append)
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_sound_stops_and_is_the_same_in_parts(shared: SharedEngine, long_score: Score) -> None:
    performance = deadpan(long_score)

    def step(share: float) -> None:
        if share > 0.05:
            raise Cancelled

    with pytest.raises(Cancelled):
        shared.preview(performance, "grand", step)
    short = deadpan(shared.read_example(EXAMPLES[SHORT]))
    shares: list[float] = []
    clip = shared.preview(short, "grand", shares.append)
    assert shares[-1] == pytest.approx(1, abs=0.01)
    assert abs(clip.samples - shared.engine.preview(short, "grand").samples).max() < 1e-4


def test_matching_stops(long_score: Score) -> None:
    example = EXAMPLES[LONG]
    human = open_performance(example.human_bytes(), example.human)

    def step(share: float) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        align(long_score, human, step)


def test_reading_stops_and_the_next_file_is_read() -> None:
    example = EXAMPLES[LONG]
    data = example.score_bytes()

    def check() -> None:
        raise Cancelled

    def read_on() -> None:
        while True:  # a very fast machine may need more than one to be caught at it
            open_score(data, example.score, check)

    with pytest.raises(Cancelled):
        read_on()
    assert len(open_score(data, example.score)) > 2000


def test_guesses_and_corrections_are_reported() -> None:
    import symusic

    human = EXAMPLES[LONG].human_bytes()
    assert any("guess" in r.text for r in open_score(human, "a.mid").remarks)
    assert open_score(EXAMPLES[SHORT].score_bytes(), EXAMPLES[SHORT].score).remarks == ()
    file = symusic.Score(480)
    piano, drums = symusic.Track("Piano", 0, False), symusic.Track("Drums", 0, True)
    for track in (piano, drums):
        for i in range(4):
            track.notes.append(symusic.Note(480 * i, 240, 60, 64))
        file.tracks.append(track)
    file.tempos.append(symusic.Tempo(0, 2000.0))
    assert [(r.bar, r.element, r.text) for r in parse_midi(file.dumps_midi()).mended] == [
        (0, "drum note", "4 drum notes are left out"),
        (0, "extreme tempo", "1 extreme tempo is brought into 10 to 400 quarters a minute"),
    ]
    assert open_score(write_midi(open_performance(human, "a.mid")), "a.mid").remarks != ()
