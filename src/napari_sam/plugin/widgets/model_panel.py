"""Panel that describes the chosen model, and downloads one that is not on this machine."""

from __future__ import annotations

from collections.abc import Callable

from napari.utils.notifications import show_warning
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_sam.errors import NapariSamError
from napari_sam.plugin.workers.downloads import Download
from napari_sam.weights.availability import ModelState, model_states


class ModelPanel(QWidget):
    """Describes a model, with a button to download it where it is not on this machine.

    Parameters
    ----------
    use
        Called with the name of a model that can be used.
    used
        Returns the name of the model in use.
    """

    def __init__(self, use: Callable[[str], None], used: Callable[[], str]) -> None:
        super().__init__()
        self._use, self._used = use, used
        self._state: ModelState | None = None
        self._trouble: tuple[str, str] = "", ""
        self.download = Download(self._on_done, self._on_failed, self._refresh)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.button = QPushButton()
        self.button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.button.clicked.connect(self._on_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.text)
        column.addWidget(self.button)
        self.setVisible(False)

    def choose(self, name: str) -> None:
        """Use a model if it is on this machine, else offer to download it."""
        try:
            self._state = next((state for state in model_states() if state.name == name), None)
        except NapariSamError as error:
            self._state = None
            show_warning(str(error))
            return
        self._refresh()
        if self._state is None or self._state.is_ready:
            self._use(name)

    def is_ready(self, name: str) -> bool:
        """Say whether a model is on this machine."""
        try:
            return any(state.name == name and state.is_ready for state in model_states())
        except NapariSamError:
            return False

    def close_downloads(self) -> None:
        """Stop a download that is under way."""
        self.download.close()

    def _on_button(self) -> None:
        if self.download.name is not None:
            self.download.cancel()
        elif self._state is not None:
            self._trouble = "", ""
            self.download.start(self._state.name, self._state.nbytes)

    def _on_done(self, name: str) -> None:
        if self._state is not None and self._state.name == name:
            self.choose(name)

    def _on_failed(self, name: str, why: str) -> None:
        self._trouble = name, why
        if why:
            show_warning(why)  # napari cuts long ones: the panel shows it whole.

    def _refresh(self) -> None:
        """Describe a model that must be downloaded; hide the panel for others."""
        state, running = self._state, self.download.name
        self.setVisible(running is not None or (state is not None and not state.is_ready))
        if running is not None:
            self.text.setText(f"Downloading {running}. {self._used()} is used until then.")
            self.button.setText(f"Cancel ({self.download.share:.0%})")
            self.button.setToolTip("Stop. The part that was downloaded is kept, and the next attempt resumes it.")
            self.button.setVisible(True)
        elif state is not None and not state.is_ready:
            failed, why = self._trouble
            reason = f"{why}\n\n" if why and failed == state.name else ""
            self.text.setText(f"{reason}{_described(state)} {self._used()} is used until then.")
            self.button.setVisible(state.where == "download")
            self.button.setText(f"Download ({state.size})" if state.size else "Download")
            self.button.setToolTip(f"Download it once, from {state.homepage}")


def _described(state: ModelState) -> str:
    size = f"{state.size}, " if state.size else ""
    text = f"{state.summary} {size}license: {state.licence}. Not on this machine yet"
    return f"{text}: {state.by_hand}." if state.where == "by hand" else f"{text}."
