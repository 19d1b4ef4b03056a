"""A window of the averages of classes: slices and surfaces side by side, page by page."""

from ..common.figures.maps import draw_gallery
from ..common.figures.surface import default_level
from . import scene
from .slices_window import readMap
from .window import FigureWindow, addButton, addChoice, addNote, addSlider

ROWS = 4  # averages on a page
OWN_LEVEL = 0.0  # of the slider: each surface at a level of its own


class GalleryWindow(FigureWindow):
    """Averages ``[(label, path, size)]`` of classes, some on a page.

    Parameters
    ----------
    entries : list of (label, path, {order: value})
        ``order`` says what the rows may be sorted by.
    onSurface : callable, optional
        Called with the paths and labels of a page to show its surfaces, which can then be turned.
    """

    def __init__(self, title, entries, parent=None, onSurface=None):
        FigureWindow.__init__(self, title, parent, size=(9.2, 8.6))
        self.entries, self.onSurface, self.page, self._read = entries, onSurface, 0, {}

    def makeControls(self, frame):
        orders = ['class', *(self.entries[0][2] if self.entries else ())]
        self.order = addChoice(frame, 'In the order of', orders, self._newOrder)
        self.level = addSlider(frame, 'Surface: standard deviations above the mean', low=0, high=8, value=OWN_LEVEL, command=self.refresh, resolution=0.25)
        addNote(frame, '0: each average at a level of its own.')
        if len(self.entries) > ROWS:
            addButton(frame, 'Next page', lambda: self.turnPage(1))
            addButton(frame, 'Page before', lambda: self.turnPage(-1))
        if self.onSurface:
            addButton(frame, 'Turn the surfaces', lambda: self.onSurface(self.shown()))
        self.note = addNote(frame)

    def _newOrder(self):
        self.page = 0
        self.refresh()

    def pages(self):
        return -(-len(self.entries) // ROWS)

    def turnPage(self, step):
        self.page = (self.page + step) % self.pages()
        self.refresh()

    def shown(self):
        """Entries of the page, in the order asked for; what has no value comes last."""
        order = self.order.get()
        entries = self.entries
        if order != 'class':
            rank = [(entry[2][order] is None, entry[2][order] or 0) for entry in entries]
            entries = [entries[index] for index in sorted(range(len(entries)), key=rank.__getitem__)]
        return entries[self.page * ROWS:(self.page + 1) * ROWS]

    def draw(self, figure):
        level = self.level.get()
        found = []
        for label, path, _ in self.shown():
            if path not in self._read:
                self._read = {**({} if len(self._read) > 4 * ROWS else self._read), path: readMap(path)}
            volume, pixelSize, _ = self._read[path]
            density = default_level(volume) if level == OWN_LEVEL else float(volume.mean() + level * volume.std())
            found.append((label, volume, pixelSize, scene.surfaceMesh(volume, pixelSize, density)))
        draw_gallery(figure, found)
        self.note.set('Page %d of %d, %d averages.' % (self.page + 1, self.pages(), len(self.entries)))
