"""The socket between a process and its worker."""

from __future__ import annotations

import array
import ctypes
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import pytest

from dotflow_like.execute.workers.channel import Channel, Message, Parcel
from dotflow_like.execute.workers.pickling import LARGE, Buffer

Descriptors = Callable[[], set[int]]
Pair = tuple[Channel, Channel]

BIG = bytes(range(256)) * 512  # 128 KiB


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected ends, of which the first takes little at once."""
    ends = socket.socketpair()
    ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    yield ends
    for each in ends:
        each.close()


@pytest.fixture
def pair(sockets: tuple[socket.socket, socket.socket]) -> Iterator[Pair]:
    ours, theirs = Channel(sockets[0]), Channel(sockets[1])
    yield ours, theirs
    ours.close()
    theirs.close()


def arrived(pair: Pair, count: int) -> list[Message]:
    """Send what was taken up, and return it from the other end."""
    ours, theirs = pair
    messages: list[Message] = []
    while len(messages) < count:
        ours.flush()
        assert not ours.ended
        messages += theirs.receive(wait=True) or ()
    assert ours.flush()
    assert theirs.receive() is None
    return messages


def content(frames: Sequence[Buffer] | None) -> list[bytes]:
    assert frames is not None
    return [bytes(frame) for frame in frames]


# Messages


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [[]],
        [[b""]],
        [[b"a"]],
        [[b"a", b"b"], [], [bytearray(b"c"), memoryview(b"d")], []],
        [[b"a"]] * 3000,
        [[bytes(LARGE - 8)]],  # with its length just what goes through the socket
        [[bytes(LARGE - 7)]],
        [[BIG]],
        [[BIG, b"a", BIG], [], [b"b"], [BIG]],
        [[], [BIG]],
        [[BIG], []],
        [[BIG], [], []],
        [[b"abc"]] * 10_000,
        [[memoryview(BIG)[1:-1]]],
    ],
    ids=lambda frames: f"{len(frames)} of {sum(len(piece) for frame in frames for piece in frame)}",
)
def test_a_message_arrives_as_it_was_posted(pair: Pair, frames: list[list[Buffer]]) -> None:
    pair[0].post(200, 4_000_000_000, 0.1, Parcel(frames))
    pair[0].post(1)
    message, after = arrived(pair, 2)
    assert message[:3] == (200, 4_000_000_000, 0.1)
    assert content(message.frames) == [b"".join(frame) for frame in frames]
    assert after == (1, 0, 0.0, ())


def test_messages_keep_their_order_over_partial_sends_and_reads(pair: Pair) -> None:
    chance = random.Random(7)
    sent = []
    blocked = 0
    came: list[Message] = []
    for number in range(400):
        sizes = [chance.choice([0, 1, 100, 5000, 70_000]) for _ in range(chance.randrange(4))]
        frames = [chance.randbytes(size) for size in sizes]
        sent.append((number % 250, number, number / 2, frames))
        pair[0].post(number % 250, number, number / 2, Parcel([[frame] for frame in frames]))
        if chance.random() < 0.5:
            blocked += not pair[0].flush()
        if chance.random() < 0.3:
            came += pair[1].receive() or ()
    came += arrived(pair, len(sent) - len(came))
    assert [(*message[:3], content(message.frames)) for message in came] == sent
    assert blocked, "else nothing was sent in parts"


def test_a_full_socket_takes_the_rest_later(pair: Pair) -> None:
    pair[0].post(1, parcel=Parcel([[bytes(60_000)]]))
    assert not pair[0].flush()
    assert not pair[0].flush()
    assert not pair[0].ended
    pair[0].post(2)
    assert [message.kind for message in arrived(pair, 2)] == [1, 2]


def test_a_message_that_comes_byte_by_byte_is_whole(
    sockets: tuple[socket.socket, socket.socket], descriptors: Descriptors
) -> None:
    """Also one whose head comes in pieces, and its descriptor with the first of them."""
    writing, reading = socket.socketpair()
    before = descriptors()
    with writing, reading:
        ours, theirs = Channel(sockets[0]), Channel(reading)
        ours.post(1, parcel=Parcel([[b"small"], []]))
        ours.flush()
        came: list[Message] = []
        for byte in sockets[1].recv(1000):
            assert came == []
            writing.send(bytes([byte]))
            came += theirs.receive() or ()
        assert [(message.kind, content(message.frames)) for message in came] == [(1, [b"small", b""])]
        ours.post(2, parcel=Parcel([[BIG], [b"second"]]))
        ours.flush()
        data, beside, *_ = sockets[1].recvmsg(1000, 100)
        passed = array.array("i", beside[0][2])
        writing.sendmsg([data[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        os.close(passed[0])
        for byte in data[1:]:
            assert theirs.receive() == []
            writing.send(bytes([byte]))
        (message,) = theirs.receive() or ()
        assert content(message.frames) == [BIG, b"second"]
        del message, came
        ours.close()
        theirs.close()
    assert descriptors() <= before


def test_waiting_returns_once_something_has_come(pair: Pair) -> None:
    came: list[Message] = []
    thread = threading.Thread(target=lambda: came.extend(pair[1].receive(wait=True) or ()))
    thread.start()
    pair[0].post(1)
    pair[0].flush()
    thread.join()
    assert [message.kind for message in came] == [1]


def test_a_waiting_flush_returns_when_all_is_on_its_way(pair: Pair) -> None:
    for number in range(20):
        pair[0].post(1, number, 0.0, Parcel([[bytes(20_000)]]))
    thread = threading.Thread(target=pair[0].flush, kwargs={"wait": True})
    thread.start()
    came: list[Message] = []
    while len(came) < 20:
        came += pair[1].receive(wait=True) or ()
    thread.join()
    assert [message.number for message in came] == list(range(20))


def test_what_a_signal_handler_posts_in_the_middle_of_a_flush_arrives_too(pair: Pair) -> None:
    rounds = threading.Semaphore(0)

    def handler(signum: int, frame: FrameType | None) -> None:
        pair[0].post(2)
        rounds.release()

    came: list[Message] = []

    def read() -> None:
        for _ in range(5):  # until then the flush has nowhere to send to
            rounds.acquire()
        while sum(message.kind == 1 for message in came) < 3:
            came.extend(pair[1].receive(wait=True) or ())

    for number in range(3):
        pair[0].post(1, number, 0.0, Parcel([[bytes([number]) * 30_000]]))
    reader = threading.Thread(target=read)
    former = signal.signal(signal.SIGUSR1, handler)
    ring = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def bell() -> None:
        while not ring.wait(0.005):
            signal.pthread_kill(main, signal.SIGUSR1)

    ringer = threading.Thread(target=bell)
    try:
        reader.start()
        ringer.start()
        pair[0].flush(wait=True)
    finally:
        ring.set()
        ringer.join()
        signal.signal(signal.SIGUSR1, former)
    pair[0].flush(wait=True)
    reader.join()
    assert [(m.number, content(m.frames)) for m in came if m.kind == 1] == [
        (number, [bytes([number]) * 30_000]) for number in range(3)
    ]


# Large data


def test_large_frames_do_not_fill_the_socket(pair: Pair) -> None:
    for number in range(10):
        pair[0].post(1, number, 0.0, Parcel([[bytes([number]), BIG]]))
        assert pair[0].flush()
    assert [content(message.frames) for message in arrived(pair, 10)] == [
        [bytes([number]) + BIG] for number in range(10)
    ]


def test_a_parcel_can_be_sent_to_several(pair: Pair) -> None:
    for parcel in (Parcel([[BIG], [b"a"]]), Parcel([[b"b"]])):
        for number in range(3):
            pair[0].post(1, number, 0.0, parcel)
        expected = content(arrived(pair, 3)[0].frames)
        pair[0].post(1, 3, 0.0, parcel)
        assert content(arrived(pair, 1)[0].frames) == expected


def test_a_parcel_can_be_forgotten_once_it_was_posted(pair: Pair) -> None:
    pair[0].post(1, parcel=Parcel([[bytes(60_000)]]))
    pair[0].post(2, parcel=Parcel([[BIG]]))
    first, second = arrived(pair, 2)
    assert (first.kind, second.kind) == (1, 2)
    assert content(second.frames) == [BIG]


def test_large_frames_begin_at_multiples_of_64(pair: Pair) -> None:
    pair[0].post(1, parcel=Parcel([[BIG[:size]] for size in (1, 100_000, 63, 64, 0, 65, 7)]))
    (message,) = arrived(pair, 1)
    assert message.frames is not None
    assert [len(frame) for frame in message.frames] == [1, 100_000, 63, 64, 0, 65, 7]
    for frame in message.frames:
        if len(frame):
            assert ctypes.addressof(ctypes.c_char.from_buffer(frame)) % 64 == 0


def test_a_receiver_may_change_what_it_got_and_nobody_else_sees_it(pair: Pair) -> None:
    parcel = Parcel([[bytes(100_000)]])
    pair[0].post(1, parcel=parcel)
    pair[0].post(2, parcel=parcel)
    first, second = (message.frames for message in arrived(pair, 2))
    assert first is not None
    assert second is not None
    memoryview(first[0])[:3] = b"own"
    assert bytes(first[0][:3]) == b"own"
    assert bytes(second[0]) == bytes(100_000)
    pair[0].post(3, parcel=parcel)
    assert content(arrived(pair, 1)[0].frames) == [bytes(100_000)]


def test_a_part_of_what_came_outlives_the_rest(pair: Pair) -> None:
    pair[0].post(1, parcel=Parcel([[BIG], [b"last"]]))
    messages = arrived(pair, 1)
    frames = messages.pop().frames
    assert frames is not None
    last = frames[1]
    del frames
    pair[0].close()
    pair[1].close()
    assert bytes(last) == b"last"


def test_many_large_messages_stay_readable_with_few_descriptors(pair: Pair, descriptors: Descriptors) -> None:
    before = len(descriptors())
    kept = []
    for number in range(300):
        pair[0].post(1, number, 0.0, Parcel([[number.to_bytes(4, "big"), BIG], [b"end"]]))
        kept += arrived(pair, 1)
    assert len(descriptors()) - before <= 201
    for number, message in enumerate(kept):
        assert content(message.frames) == [number.to_bytes(4, "big") + BIG, b"end"]
    del kept, message
    assert len(descriptors()) == before


# The other side is gone


def test_what_was_sent_before_the_end_arrives(pair: Pair) -> None:
    pair[0].post(1, parcel=Parcel([[BIG]]))
    pair[0].post(2)
    pair[0].flush()
    pair[0].close()
    came: list[Message] = []
    while not pair[1].ended:
        came += pair[1].receive(wait=True) or ()
    assert [message.kind for message in came] == [1, 2]
    assert content(came[0].frames) == [BIG]
    assert pair[1].receive() is None


def test_what_is_sent_after_the_end_is_lost_and_the_sender_knows(pair: Pair) -> None:
    pair[1].post(5)
    pair[1].flush()
    pair[1].close()
    assert not pair[0].ended
    for _ in range(2):
        pair[0].post(1, parcel=Parcel([[BIG]]))
        assert pair[0].flush()
        assert pair[0].ended
    assert [message.kind for message in pair[0].receive() or ()] == [5], "it had said this before"


def test_a_program_that_dies_of_a_broken_pipe_does_not_die_of_a_worker(script: Callable[..., str]) -> None:
    code = """
import signal, socket
from dotflow_like.execute.workers.channel import Channel
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
one, other = socket.socketpair()
channel = Channel(one)
other.close()
channel.post(1)
print(channel.flush(), channel.ended)
channel.close()
"""
    assert script(code) == "True True\n"


# Nothing leaks


def test_nothing_is_left_of_parcels_and_channels(descriptors: Descriptors) -> None:
    before = descriptors()
    parcel = Parcel([[BIG]])
    assert len(descriptors()) == len(before) + 1
    one, other = socket.socketpair()
    ours, theirs = Channel(one), Channel(other)
    for _ in range(5):
        ours.post(1, parcel=parcel)
        ours.post(1, parcel=Parcel([[BIG]]))
    del parcel
    ours.flush()
    theirs.receive()  # one or more of them; the others stay unread
    ours.post(1, parcel=Parcel([[BIG]]))  # never flushed
    ours.close()
    theirs.close()
    ours.close()
    assert descriptors() == before


def test_a_descriptor_whose_message_never_came_whole_is_given_back(descriptors: Descriptors) -> None:
    before = descriptors()
    writing, reading = socket.socketpair()
    channel = Channel(reading)
    with writing:
        writing.sendmsg([b"a"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
        assert channel.receive() == []
        assert len(descriptors()) == len(before) + 3
        channel.close()
    assert descriptors() == before


def test_a_parcel_for_which_there_is_no_room_leaves_nothing(script: Callable[..., str]) -> None:
    code = """
import gc, os, resource
from dotflow_like.execute.workers.channel import Parcel
def count():
    return len(os.listdir("/dev/fd"))
big = bytes(10_000_000)
before = count()
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, -1))
try:
    Parcel([[big]])
except OSError as error:
    print(type(error).__name__)
print(count() - before)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
resource.setrlimit(resource.RLIMIT_NOFILE, (before - 1, 4096))  # one of them was that of the folder
try:
    Parcel([[big]])
except OSError as error:
    print(error.errno)
"""
    assert script(code).split() == ["OSError", "0", "24"]


def test_without_a_free_descriptor_the_data_is_lost_and_only_that(script: Callable[..., str]) -> None:
    code = """
import os, resource, socket
from dotflow_like.execute.workers.channel import Channel, Parcel
one, other = socket.socketpair()
ours, theirs = Channel(one), Channel(other)
big = Parcel([[bytes(100_000)]])
for number in range(6):
    ours.post(1, number, 0.0, big if number % 2 else Parcel([[b"small"]]))
assert ours.flush()
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, 4096))
def receive(count):
    came = []
    while len(came) < count:
        came += theirs.receive() or ()
    return [(m.number, m.frames and [len(frame) for frame in m.frames]) for m in came]
print(receive(6))
for room in 1, 2, 3:  # the second descriptor is that of the mapping, which outlives the one that was sent
    ours.post(1, room, 0.0, big)
    ours.post(2, 0, 0.0, Parcel([[b"small"]]))
    ours.flush()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, 4096))
    print(receive(2))
assert not theirs.ended
ours.close()
theirs.close()
"""
    lines = script(code).splitlines()
    assert lines[0] == "[(0, [5]), (1, None), (2, [5]), (3, None), (4, [5]), (5, None)]"
    assert lines[1] == "[(1, None), (0, [5])]"
    assert lines[2] == "[(2, [100000]), (0, [5])]"
    assert lines[3] == "[(3, [100000]), (0, [5])]"


def test_losses_do_not_change_how_many_descriptors_are_kept(script: Callable[..., str]) -> None:
    code = """
import os, resource, socket
from dotflow_like.execute.workers.channel import Channel, Parcel
one, other = socket.socketpair()
ours, theirs = Channel(one), Channel(other)
big = Parcel([[bytes(70_000)]])
free = os.dup(0)
os.close(free)
before = len(os.listdir("/dev/fd"))
def received(count):
    came = []
    for number in range(count):
        ours.post(1, number, 0.0, big)
        ours.flush()
        came += theirs.receive()
    return came
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, 4096))  # for what comes, but not for its mapping
print({message.frames for message in received(50)})
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
kept = received(300)
print(len(os.listdir("/dev/fd")) - before)
del kept
print(len(os.listdir("/dev/fd")) - before)
ours.close()
theirs.close()
"""
    assert script(code).split() == ["{None}", "200", "0"]
