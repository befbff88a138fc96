"""`check_kernel` is only worth something if it fails: each test here plants one wrong kernel."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError
from noria.ir.opdef import op, registry
from noria.kernels import registry as kernel_registry
from noria.kernels.numba.launch import launch, need
from noria.kernels.registry import LAST, PLAIN, Declined, Kernel, Prepared, register
from noria.testing.case import arr, ints
from noria.testing.kernel import SITUATIONS, check_kernel

NAME = "test:triple"

# x into out, each element times three; MORE stands in the loop, BEFORE in front of it.
SOURCE = """
def triple(args):
    x = load_int64(args, 0)
    out = load_int64(args, 1)
    n = load_int64(args, 2)
    calls = load_int64(args, 3)
    scratch = load_int64(args, 4)
    team = team_size()
    me = thread_id()
    first = n * me // team
    last = n * (me + 1) // team
    for i in range(first, last):
        store_float32(out, i, load_float32(x, i) * float32(3))
    return 0
"""


class Triple(Kernel):
    """Runs a source; what the tests vary are its class attributes."""

    name = NAME
    ops = ("triple",)
    source = SOURCE
    wanted: str | None = PLAIN
    given = PLAIN
    in_place = ((0, 0),)
    refusal = ""

    def __init__(self):
        self.calls = np.zeros(1, np.int64)
        self.seen = []

    def accepts(self, op):
        need(op, ("float32",))
        if self.refusal == "accepts":
            raise Declined("it is Sunday")

    def layout(self, op, given):
        return [self.wanted], [self.given]

    def size(self, bound):
        return bound.outputs[0].size

    def bind(self, bound):
        if self.refusal == "bind":
            raise Declined("the moon is full")
        self.seen.append((bound.threads, bound.fixed[0]))
        n = self.size(bound)

        def emit(ins, outs, packs, scratch):
            table = [ins[0], outs[0], n, self.calls.ctypes.data, scratch]
            return [launch(self.name, self.source, "triple", table, threads=bound.threads)]

        return Prepared(emit, scratch=64, in_place=self.in_place)


@pytest.fixture(autouse=True)
def triple():
    """An op that exists as long as a test."""

    def infer(x):
        return x

    definition = op(infer, name="triple", overwrites=((0, 0),))

    def compute(xp, x):
        if x.size and np.asarray(x).flat[0] == 99:
            raise ArgumentError("no x may be 99", got="99")
        return x * 3

    definition.compute(compute)
    yield definition
    del registry["triple"]


@pytest.fixture
def plant(monkeypatch):
    """Registers a `Triple` of other attributes, as long as a test."""
    monkeypatch.setattr(kernel_registry, "_kernels", list(kernel_registry.kernels()))
    monkeypatch.setattr(kernel_registry, "_index", (-1, {}))

    def planted(name=NAME, **attributes):
        kernel = type("Planted", (Triple,), {"name": name, **attributes})()
        register(kernel)
        return kernel

    return planted


def changed(old, new):
    assert SOURCE.count(old) == 1
    return SOURCE.replace(old, new)


def check(shape=(2, 5, 3, 2), **options):
    return check_kernel("triple", [arr(*shape)], symbolic={0: {0: "N"}}, **options)


STORE = "        store_float32(out, i, load_float32(x, i) * float32(3))\n"


def test_a_right_kernel_passes_and_its_name_is_returned(plant):
    kernel = plant()
    plant("test:other")
    assert check(special=True, same_bits=True) == [NAME, "test:other"]
    assert check(kernel="test:other") == ["test:other"]
    assert {threads for threads, _ in kernel.seen} == {1, 2, 3}


def test_situations_can_be_chosen(plant):
    kernel = plant()
    check(situations=[s for s in SITUATIONS if s.threads == 2])
    assert {threads for threads, _ in kernel.seen} == {2}


@pytest.mark.parametrize("shape", [(), (1,), (7, 1)])
def test_any_rank_is_checked(plant, shape):
    plant()
    assert check_kernel("triple", [arr(*shape)]) == [NAME]


def test_a_wrong_number_is_found_and_the_situation_told(plant):
    plant(source=changed("float32(3)", "float32(3.001)"))
    with pytest.raises(AssertionError, match=r"test:triple, in place, one thread, round 0, out0"):
        check()


def test_elements_that_are_left_out_are_found_also_in_place(plant):
    plant(source=changed("(first, last)", "(first, last - 1)"), in_place=())
    with pytest.raises(AssertionError, match="got nan"):
        check()


def test_a_kernel_that_loses_the_rest_of_the_division_among_threads_is_found(plant):
    plant(source=changed("n * (me + 1) // team", "first + n // team"))
    with pytest.raises(AssertionError, match="three threads"):
        check_kernel("triple", [arr(2, 2, 2)])


def test_a_kernel_that_changes_an_input_is_found(plant):
    plant(source=changed(STORE, STORE + "        store_float32(x, i, float32(0))\n"), in_place=())
    with pytest.raises(AssertionError, match="it changed the input x0"):
        check()


def test_a_kernel_that_cannot_work_in_place_but_says_so_is_found(plant):
    source = changed(
        "    for i in",
        "    for i in range(first, last):\n        store_float32(out, i, float32(0))\n    for i in",
    )
    plant(source=source, in_place=())
    check()
    plant("test:liar", source=source)
    with pytest.raises(AssertionError, match="test:liar, in place"):
        check(kernel="test:liar")


def test_a_kernel_that_adds_to_memory_it_has_not_written_is_found(plant):
    added = STORE.replace("load_float32(x, i) *", "load_float32(out, i) + load_float32(x, i) *")
    plant(source=changed(STORE, added), in_place=())
    with pytest.raises(AssertionError, match="got nan"):
        check()


def test_a_kernel_that_writes_beyond_its_output_is_found(plant):
    plant(source=changed("    return 0", "    store_float32(out, n, float32(0))\n    return 0"))
    with pytest.raises(AssertionError, match="wrote outside its operands"):
        check()


@pytest.mark.parametrize("given", [PLAIN, LAST])
def test_a_kernel_that_takes_any_layout_and_looks_at_none_is_found(plant, given):
    plant(wanted=None, given=given)
    with pytest.raises(AssertionError, match="channels-last" if given == PLAIN else "in place"):
        check()


def test_a_kernel_in_channels_last_memory_passes(plant):
    plant(wanted=LAST, given=LAST)
    check()


def test_what_a_run_leaves_behind_must_not_matter(plant):
    plant(
        source=changed(
            STORE,
            "        c = load_int64(calls, 0)\n        store_int64(calls, 0, c + 1)\n"
            "        store_float32(out, i, load_float32(x, i) * float32(3) + float32(c // 60))\n",
        )
    )
    with pytest.raises(AssertionError, match="in place, one thread, round 1"):
        check()


def test_a_kernel_that_keeps_the_first_size_is_found(plant):
    def size(self, bound):
        self.__dict__.setdefault("first", bound.outputs[0].size)
        return self.first

    plant(size=size)
    with pytest.raises(AssertionError, match=r"at \{'N': 3\}"):
        check()


def test_float32_is_no_judge_of_large_numbers_that_cancel(plant, triple):
    """The reference rounds x + 1e6 away; a kernel that does not is right."""
    triple.compute(lambda xp, x: (x + xp.asarray(1e6, x.dtype)) - xp.asarray(1e6, x.dtype) + 2 * x)
    plant()
    check(wide=True)
    with pytest.raises(AssertionError, match="numbers are wrong"):
        check()


def test_wrong_treatment_of_nan_is_found_if_asked_for(plant):
    number = "where(isnan(load_float32(x, i)), float32(0), load_float32(x, i))"
    plant(source=changed("load_float32(x, i)", number))
    check()
    with pytest.raises(AssertionError, match=r"round 2(.|\n)*expected nan"):
        check(special=True)


def test_numbers_that_depend_on_the_team_are_found_if_asked_for(plant):
    plant(source=changed("float32(3)", "float32(3.000001) * float32(1 + team * 1e-7)"))
    check()
    with pytest.raises(AssertionError, match="two threads, to the last bit"):
        check(same_bits=True)


@pytest.mark.parametrize(
    ("refusal", "reason"), [("accepts", "it is Sunday"), ("bind", "at binding: the moon is full")]
)
def test_a_kernel_that_declines_is_told_with_its_reason(plant, refusal, reason):
    plant(refusal=refusal)
    with pytest.raises(AssertionError, match=rf"no kernel took triple.*test:triple: {reason}"):
        check(kernel=NAME)
    plant("test:other")
    assert check() == ["test:other"]


def test_an_op_without_kernels_fails():
    with pytest.raises(AssertionError, match="there is none for this op"):
        check()
    with pytest.raises(AssertionError, match="there is no such kernel"):
        check(kernel="test:unknown")


BAD = [np.array([99.0, 1.0], np.float32)]


def test_what_the_reference_refuses_a_kernel_must_refuse_in_the_same_words(plant):
    plant(
        source=changed(
            "    return 0", "    if load_float32(x, 0) == 99:\n        return 1\n    return 0"
        ),
        in_place=(),
    )
    assert check_kernel("triple", BAD, raises=ArgumentError) == [NAME]
    with pytest.raises(AssertionError, match="the reference did not raise"):
        check_kernel("triple", [arr(2)], raises=ArgumentError)
    with pytest.raises(ArgumentError, match="no x may be 99"):
        check_kernel("triple", BAD)


def test_a_kernel_that_computes_what_the_reference_refuses_is_found(plant):
    plant()
    with pytest.raises(AssertionError, match=r"the reference says(.|\n)*and the engine\n *None"):
        check_kernel("triple", BAD, raises=ArgumentError)


def test_a_kernel_that_fails_where_the_reference_finds_nothing_wrong_is_named(plant):
    plant(source=changed("    return 0", "    return 7"))
    with pytest.raises(EngineError, match=r"test:triple failed\n *at *triple at .*test_kernel.py"):
        check()


def test_a_kernel_of_noria_passes():
    ids, rows = ints(6, high=4), arr(6, 3)
    assert check_kernel("scatter_rows", [ids, rows], {"shape": (4, 3)}) == ["numba:scatter_rows"]
