"""One arena for all sizes; pieces that are computed again when state was written."""

import weakref
from itertools import pairwise

from noria.runtime.arena import ALIGNMENT
from noria.runtime.workspace import BLOCK, GROWTH, MAX_STEPS, Kept, Workspace


class Thing:
    """Stands for a Bound."""


def test_what_fits_shares_one_arena():
    space = Workspace()
    large = space.room(100_000)
    assert space.room(50_000) is large and space.room(100_000) is large


def test_a_larger_arena_ends_the_bounds_in_the_smaller_one():
    space = Workspace()
    small = space.room(1000)
    space.put("small", Thing())
    large = space.room(5000)
    assert large is not small and large.nbytes >= 5000
    assert space.get("small") is None and not space.bounds


def test_an_arena_grows_by_more_than_is_asked_for():
    space = Workspace()
    first = space.room(1 << 20)
    assert space.room((1 << 20) + 1).nbytes >= int(GROWTH * first.nbytes)


def test_a_bound_that_is_still_used_keeps_its_memory():
    space = Workspace()
    view = space.room(1000).view(0, (4,), "float32")
    view[:] = 7
    space.room(1 << 22).view(0, (4,), "float32")[:] = 8
    assert view.tolist() == [7.0] * 4


def test_the_bound_not_used_for_the_longest_time_is_forgotten():
    space = Workspace(limit=2)
    a, b, c = Thing(), Thing(), Thing()
    space.put("a", a)
    space.put("b", b)
    assert space.get("a") is a
    space.put("c", c)
    assert space.get("b") is None and space.get("a") is a and space.get("c") is c


def test_many_bounds_of_few_steps_are_kept():
    space = Workspace(limit=2)
    for k in range(100):
        space.put(k, Thing(), MAX_STEPS // 50)
    assert list(space.bounds) == list(range(50, 100))
    space.put("large", Thing(), MAX_STEPS)
    assert len(space.bounds) == 2
    space.room(1 << 20)
    space.put("first", Thing(), 1)
    assert list(space.bounds) == ["first"]


def test_a_piece_is_the_same_for_the_same_key():
    kept = Kept()
    piece = kept.piece("w", 100)
    assert kept.piece("w", 100) is piece and kept.piece("v", 100) is not piece
    assert piece.epoch != kept.epoch  # nobody has written it yet


def test_pieces_lie_side_by_side_in_growing_blocks():
    kept = Kept()
    pieces = [kept.piece(k, 100_000) for k in range(100)]
    blocks = {id(piece.arena) for piece in pieces}
    assert 2 < len(blocks) < 10
    places = sorted((p.address, p.address + p.nbytes) for p in pieces)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(places))
    assert all(p.address % ALIGNMENT == 0 for p in pieces)
    assert len(blocks | {id(kept.piece("large", BLOCK + 1).arena)}) == len(blocks) + 1


def test_empty_pieces_have_places_of_their_own():
    kept = Kept()
    assert len({kept.piece(k, 0).address for k in range(5)}) == 5


def test_a_piece_that_is_given_back_leaves_the_others_as_they_are():
    kept = Kept()
    pieces = [kept.piece(k, 50_000) for k in range(9)]
    views = [p.arena.view(p.offset, (p.nbytes,), "uint8") for p in pieces]
    for k, view in enumerate(views):
        view[:] = k + 1
    pieces[4].epoch = 0
    pieces[4].give_back()
    assert pieces[4].epoch != 0
    assert not views[4][4096:-4096].any()
    assert all((view == k + 1).all() for k, view in enumerate(views) if k != 4)


def test_a_new_version_of_the_state_begins_an_epoch():
    kept = Kept()
    kept.follow(0)
    assert kept.epoch == 0
    kept.follow(3)
    kept.follow(3)
    assert kept.epoch == 1 and kept.version == 3


def test_small_memory_of_single_bounds_is_shared_and_lasts_as_long_as_they_do():
    space = Workspace()
    small = [space.own(64) for _ in range(3)]
    assert len({p.address for p in small}) == 3 and len({p.arena for p in small}) == 1
    large = space.own(1 << 20)
    assert large.arena.nbytes >= 1 << 20 and large.arena is not small[0].arena
    gone = weakref.ref(large.arena)
    del large
    assert gone() is None
