"""Hooks call their handlers in order, plain ones and async ones."""

import pytest

from aiosession.events import Hook, StatementHooks


def test_a_hook_without_handlers_is_false() -> None:
    hook: Hook[[int]] = Hook("something")

    assert not hook
    hook.add(print)
    assert hook
    hook.remove(print)
    assert not hook


async def test_handlers_run_in_the_order_of_their_arrival() -> None:
    heard: list[str] = []
    hook: Hook[[str]] = Hook("something")

    async def second(text: str) -> None:
        heard.append(f"second {text}")

    hook.add(lambda text: heard.append(f"first {text}"))
    hook.add(second)
    hook.add(lambda text: heard.append(f"zeroth {text}"), first=True)
    await hook("x")

    assert heard == ["zeroth x", "first x", "second x"]


async def test_an_error_of_a_handler_is_the_callers() -> None:
    hook: Hook[[]] = Hook("something")

    def fail() -> None:
        raise KeyError

    hook.add(fail)

    with pytest.raises(KeyError):
        await hook()


async def test_all_can_be_told_whatever_some_of_them_raise() -> None:
    heard: list[int] = []
    hook: Hook[[int]] = Hook("something")

    def fail(number: int) -> None:
        raise KeyError(number)

    async def fail_too(number: int) -> None:
        raise ValueError(number)

    for handler in (fail, fail_too, heard.append):
        hook.add(handler)
    with pytest.raises(KeyError):
        await hook.tell_all(1)

    assert heard == [1]


async def test_a_handler_can_listen_for_a_while() -> None:
    heard: list[int] = []
    hook: Hook[[int]] = Hook("something")

    with hook.listening(heard.append):
        await hook(1)
    await hook(2)

    assert heard == [1]


async def test_a_handler_may_remove_itself() -> None:
    heard: list[int] = []
    hook: Hook[[int]] = Hook("something")

    def once(number: int) -> None:
        heard.append(number)
        hook.remove(once)

    hook.add(once)
    hook.add(heard.append)
    await hook(1)
    await hook(2)

    assert heard == [1, 1, 2]
    assert list(hook) == [heard.append]


def test_statement_hooks_are_false_while_nobody_listens() -> None:
    hooks = StatementHooks()

    assert not hooks
    hooks.after.add(print)
    assert hooks
