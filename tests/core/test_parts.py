"""Parts of some work: names, ranges, plans, what is missing, and the lock of a part."""

import json

import pytest

from slap.core.errors import UserError
from slap.core.parts import Part, Parts, has_parts


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "1/0", "a/b", "-1/4", "1/4/2", "01/4", ""])
def test_a_part_that_is_none(text):
    with pytest.raises(UserError, match=r"a part is written as 3/64, .*; the first is 1/64; got"):
        Part.of(text)


@pytest.mark.parametrize(
    ("total", "unit", "count"), [(0, 1, 3), (1, 5, 4), (1000, 64, 7), (512, 512, 64), (999, 1, 10)]
)
def test_all_parts_are_all_items_once_and_begin_at_multiples(total, unit, count):
    ranges = [Part(number, count).range_of(total, unit) for number in range(1, count + 1)]
    assert [place for one in ranges for place in one] == list(range(total))
    assert all(one.start % unit == 0 or one.start == total for one in ranges)
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 2 * unit
    turns = [list(Part(number, count).turns(range(total), unit)) for number in range(1, count + 1)]
    assert sorted(place for turn in turns for place in turn) == list(range(total))


def work(parts, part):
    with parts.work(part) as folder:
        if folder is not None:
            parts.finish(part, {"number": part.number})
        return folder


def test_parts_that_are_missing_or_only_begun_are_named(tmp_path):
    parts = Parts(tmp_path / "out", {"size": 3})
    with pytest.raises(UserError, match=r"there are no parts in .*out\.parts; run the same command with --part 1/N"):
        parts.complete()
    assert work(parts, Part(1, 4)) == tmp_path / "out.parts/00001-of-00004"
    assert work(parts, Part(1, 4)) is None
    work(parts, Part(4, 4))
    with parts.work(Part(3, 4)):
        pass
    with pytest.raises(UserError, match=r"lacks parts 2/4, 3/4 \(3/4 begun, .*--part 2/4 .*numbers 2,3$"):
        parts.complete()
    work(parts, Part(2, 4))
    work(parts, Part(3, 4))
    assert [done.result["number"] for done in parts.complete()] == [1, 2, 3, 4]
    assert has_parts(tmp_path / "out")
    parts.remove()
    assert list(tmp_path.iterdir()) == []


def test_parts_of_other_options_are_refused_by_the_next_part_and_by_the_merge(tmp_path):
    parts, others = (Parts(tmp_path / "out", {"size": size, "name": "x"}) for size in (3, 5))
    work(parts, Part(1, 2))
    message = r"part 1/2 was made with other options or inputs: size 3 instead of 5\. Give the options .*00001-of-00002"
    for refused in (lambda: work(others, Part(2, 2)), lambda: work(others, Part(1, 2)), others.complete):
        with pytest.raises(UserError, match=message):
            refused()
    with pytest.raises(UserError, match=r"has 1/2, one of 2 parts, and this is one of 3"):
        work(parts, Part(2, 3))
    work(parts, Part(2, 2))
    plan = tmp_path / "out.parts/00002-of-00002/plan.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "size": 4}))
    with pytest.raises(UserError, match=r"part 2/2 was made with other options or inputs: size 4 instead of 3"):
        parts.complete()


def test_a_part_is_worked_on_by_one_process_at_a_time(tmp_path):
    parts = Parts(tmp_path / "out", {})
    with parts.work(Part(1, 2)), pytest.raises(UserError, match=r"another process works on part 1/2 now"):
        work(parts, Part(1, 2))
    assert work(parts, Part(1, 2))


def test_what_others_put_into_the_folder_stays(tmp_path):
    parts = Parts(tmp_path / "out", {})
    work(parts, Part(1, 1))
    (tmp_path / "out.parts/mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is the folder of the parts, but holds mine\.txt; move that elsewhere"):
        parts.complete()
    assert (tmp_path / "out.parts/mine.txt").read_text() == "mine"
