"""Key bindings of the plugin's layers, as the user's preferences define them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from napari.layers import Layer

PLUGIN, SECTION = "napari-sam", "keys"
# The layers that a key works in: those of the prompts, and that of the proposals.
Kind = Literal["prompts", "proposals"]


@dataclass(frozen=True, slots=True)
class Action:
    """An action with its default key.

    Parameters
    ----------
    name
        Name in the manifest's `configurations`.
    default
        The default key, as napari writes it.
    kinds
        The layers that it works in.
    """

    name: str
    default: str
    kinds: tuple[Kind, ...] = ("prompts",)


EVERYWHERE: tuple[Kind, ...] = ("prompts", "proposals")
PROPOSALS: tuple[Kind, ...] = ("proposals",)


ACTIONS = (
    Action("accept", "C"),
    Action("clear", "Shift-C"),
    Action("next_candidate", "N"),
    Action("previous_candidate", "Shift-N"),
    Action("cycle_candidates", "Tab"),
    Action("flip_sign", "T"),
    # S alone is napari's own: it selects points and shapes.
    Action("same_object", "Shift-S"),
    Action("new_object", "O"),
    Action("next_object", "Shift-O"),
    Action("accept_all", "Alt-C"),
    Action("undo", "Control-Z", EVERYWHERE),
    Action("redo", "Control-Shift-Z", EVERYWHERE),
    # 1 to 4 alone are napari's own: they delete points and choose a tool.
    Action("task_one", "Alt-1", EVERYWHERE),
    Action("task_all", "Alt-2", EVERYWHERE),
    Action("task_planes", "Alt-3", EVERYWHERE),
    Action("task_teach", "Alt-4", EVERYWHERE),
    Action("follow", "F"),
    Action("accept_found", "C", PROPOSALS),
    Action("next_doubtful", "R", PROPOSALS),
    Action("keep_found", "Y", PROPOSALS),
    Action("remove_found", "N", PROPOSALS),
    Action("other_class", "K", PROPOSALS),
    # F alone follows.
    Action("find_similar", "Shift-F", EVERYWHERE),
    Action("leave_found", "Escape", PROPOSALS),
)
SYMBOLS = {"Control": "^", "Shift": "⇧", "Alt": "⌥", "Meta": "⌘"}


def settings_page(section: str) -> Any | None:
    """Return a part of the plugin's page in napari's preferences, or None where there is none."""
    try:
        from napari.settings import get_plugin_settings

        return getattr(get_plugin_settings(PLUGIN), section, None)
    except Exception:  # The page is a convenience: whatever is wrong with it, the keys must work.
        return None


def chosen_keys() -> dict[str, str]:
    """Return the key of each action: the user's where it can be one, else the default."""
    page = settings_page(SECTION)
    return {action.name: _valid(getattr(page, action.name, ""), action.default) for action in ACTIONS}


def _valid(key: Any, default: str) -> str:
    from napari.utils.key_bindings import KeyCode, coerce_keybinding

    try:
        parts = coerce_keybinding(str(key)).parts
    except (ValueError, TypeError):
        return default
    is_one = len(parts) == 1 and parts[0].key != KeyCode.UNKNOWN
    return str(key) if is_one else default


def shown(key: str) -> str:
    """Return a key as it stands on a button."""
    *modifiers, letter = key.split("-")
    return "".join(SYMBOLS.get(modifier, f"{modifier}+") for modifier in modifiers) + letter


def spelled(key: str) -> str:
    """Return a key as it stands in a tooltip."""
    return key.replace("Control", "Ctrl").replace("-", "+")


class LayerKeys:
    """Binds actions to keys of layers, and binds them again when the user changes them.

    Parameters
    ----------
    actions
        Function of each action, by its name.
    changed
        Called when the user chose another key.

    Attributes
    ----------
    keys
        Key of each action, by its name.
    """

    def __init__(self, actions: dict[str, Callable[[], None]], changed: Callable[[], None]) -> None:
        self.keys = chosen_keys()
        self._actions, self._changed = actions, changed
        self._layers: list[tuple[Layer, Kind]] = []
        self._page = settings_page(SECTION)
        if self._page is not None:
            self._page.events.connect(self._on_changed)

    def bind(self, layer: Layer, kind: Kind = "prompts") -> None:
        """Bind the actions of a kind of layers to a layer."""
        self._layers.append((layer, kind))
        for action in ACTIONS:
            if kind in action.kinds:
                layer.bind_key(self.keys[action.name], _bound(self._actions[action.name]), overwrite=True)

    def run(self, name: str) -> None:
        """Run an action by its name."""
        self._actions[name]()

    def press(self, key: str) -> None:
        """Run the actions of a key in the layers of the prompts, as if it had been pressed."""
        for action in ACTIONS:
            if self.keys[action.name] == key and "prompts" in action.kinds:
                self._actions[action.name]()

    def forget(self, layer: Any) -> None:
        """Forget a layer that was deleted."""
        self._layers = [bound for bound in self._layers if bound[0] is not layer]

    def close(self) -> None:
        """Stop following the preferences."""
        if self._page is not None:
            self._page.events.disconnect(self._on_changed)
        self._layers = []

    def _on_changed(self, event: Any = None) -> None:
        before, self.keys = self.keys, chosen_keys()
        layers, self._layers = self._layers, []
        for layer, kind in layers:
            for key in before.values():
                layer.bind_key(key, None, overwrite=True)
            self.bind(layer, kind)
        self._changed()


def _bound(action: Callable[[], None]) -> Callable[[Any], None]:
    """Return what napari calls with the layer; it must be a function, and nothing else that can be called."""

    def act(_layer: Any) -> None:
        action()

    return act
