"""Viewers of subtomograms: what a network tells of their classes, how they were divided, and their averages."""

from functools import partial
from typing import Optional

import numpy as np
from pyworkflow.object import Pointer

from ..common.figures.bars import draw_confusion, draw_quality
from ..convert.subtomogram_averages import AVERAGES_REPORT, readAverages
from ..convert.subtomogram_classes import (
    CLASSES_REPORT,
    CLASSES_TABLE,
    CLUSTERS_REPORT,
    CLUSTERS_TABLE,
    CONFUSION,
    VALIDATION_TABLE,
    ClassTable,
    readConfusion,
)
from ..convert.tables import readRows
from ..protocols import (
    CryoLearnProtSelectSubtomograms,
    CryoLearnProtSubtomogramAverage,
    CryoLearnProtSubtomogramClassify,
    CryoLearnProtSubtomogramSubdivide,
    CryoLearnProtSubtomogramTrain,
)
from .gallery import GalleryWindow
from .landscape_data import readLandscape
from .landscape_window import LandscapeWindow
from .plots_subtomograms import drawSizes
from .scene_window import SceneWindow
from .slices_window import readMap
from .viewer_base import CryoLearnViewer, whenWritten
from .viewer_landscape import launchRun
from .viewer_learning import CryoLearnLearningViewer
from .viewer_maps import CryoLearnMapsViewer
from .window import ChoiceWindow

FEATURES = 'Features of the network'


class FeaturesViewer(CryoLearnViewer):
    """Base of the viewers that show features of subtomograms: two axes of choice, colours, a lasso."""

    TABLE: Optional[str] = None

    def _addFeaturesParam(self, form, what=''):
        self._addLine(form, 'showFeatures', FEATURES, important=True,
                      help='Points on two axes of your choice, coloured by any column.' + what)

    def getSelectable(self):
        """Pointer to the subtomograms that the lasso makes a subset of; None when there is nothing to make one of."""
        return None

    def _showFeatures(self, param=None):
        if not self.has(self.TABLE):
            return self._notReady(self.TABLE)
        pointer, path = self.getSelectable(), self.extra(self.TABLE)

        def select(xAxis, yAxis, corners):
            run = launchRun(self.getProject(), CryoLearnProtSelectSubtomograms, 'selected by features', inputSubtomograms=pointer, table=path,
                            xAxis=xAxis, yAxis=yAxis, polygon=np.asarray(corners))
            return 'Run "%s" was launched; its output is the subset.' % run.getRunName()
        return [LandscapeWindow(readLandscape(path), self.title(FEATURES), self.formWindow, onSelect=select if pointer is not None else None,
                                plotTitle=FEATURES, items='subtomograms')]

    @whenWritten(CONFUSION)
    def _showConfusion(self):
        rows, columns, counts = readConfusion(self.extra(CONFUSION))
        return self.figure('Confusion matrix', lambda figure: draw_confusion(figure, counts, rows, column_names=columns), size=(7.4, 6.2))


class CryoLearnSubtomogramTrainViewer(FeaturesViewer, CryoLearnLearningViewer):
    """Learning curves of a network of subtomograms, its confusion matrix, and features of subtomograms that it has not seen."""

    _label = 'subtomogram network viewer'
    _targets = [CryoLearnProtSubtomogramTrain]
    TABLE = VALIDATION_TABLE

    def _defineResults(self, form):
        CryoLearnLearningViewer._defineResults(self, form)
        self._addLine(form, 'showConfusion', 'Confusion matrix', important=True,
                      help='Which classes are taken for which, of the subtomograms that were kept for validation.')
        self._addFeaturesParam(form, ' Of the subtomograms that were kept for validation.')


class CryoLearnSubtomogramClassifyViewer(FeaturesViewer):
    """Classes of subtomograms: their sizes, how sure they are, the features, a lasso to a subset."""

    _label = 'subtomogram classes viewer'
    _targets = [CryoLearnProtSubtomogramClassify]
    TABLE_OF = 'outputSubtomograms'
    TABLE = CLASSES_TABLE

    def _defineResults(self, form):
        self._addLine(form, 'showSizes', 'Sizes of the classes', important=True)
        self._addLine(form, 'showQuality', 'Confidence and novelty')
        self._addFeaturesParam(form, ' The lasso makes a subset, a run of its own.')
        if self.has(CONFUSION):
            self._addLine(form, 'showConfusion', 'Confusion matrix', help='Against the labels that the input had.')
        self._addTable(form, 'Subtomograms as a table')

    def getSelectable(self):
        return Pointer(value=self.protocol, extended='outputSubtomograms') if hasattr(self.protocol, 'outputSubtomograms') else None

    @whenWritten(CLASSES_TABLE)
    def _showSizes(self):
        table = ClassTable(self.extra(CLASSES_TABLE))
        counts = np.bincount(table.columns['class'].astype(int), minlength=len(table.names) + 1)
        return self.figure('Sizes of the classes', lambda figure: drawSizes(figure, counts, ['unknown', *table.names], title='Subtomograms of each class'))

    @whenWritten(CLASSES_TABLE)
    def _showQuality(self):
        table = ClassTable(self.extra(CLASSES_TABLE))
        columns = {name: table.columns[name] for name in ('confidence', 'novelty') if name in table.columns}
        return [ChoiceWindow(self.title('Confidence'), self.formWindow, columns,
                             lambda figure, label, values: draw_quality(figure, values, label, 'subtomograms'))]


class CryoLearnSubtomogramSubdivideViewer(FeaturesViewer):
    """Groups of subtomograms: the picture of their features with a lasso, their sizes, what they hold."""

    _label = 'subdivision viewer'
    _targets = [CryoLearnProtSubtomogramSubdivide]
    TABLE_OF = 'outputClasses'
    TABLE = CLUSTERS_TABLE

    def _defineResults(self, form):
        self._addFeaturesParam(form, ' The first two axes are a t-SNE picture, for the eye only. The lasso makes a subset, a run of its own.')
        self._addLine(form, 'showSizes', 'Sizes of the groups', important=True,
                      help='Coloured by the distance from the nearest class of the training: groups that are far from all may be new structures.')
        self._addTable(form, 'Groups as a table')

    def getSelectable(self):
        return self.protocol.inputSubtomograms

    @whenWritten(CLUSTERS_REPORT)
    def _showSizes(self):
        rows = readRows(self.extra(CLUSTERS_REPORT))
        numbers, sizes = [int(row['class']) for row in rows], [int(row['subtomograms']) for row in rows]
        distance = np.array([row.get('distance') for row in rows], dtype=float)
        return self.figure('Sizes of the groups', lambda figure: drawSizes(
            figure, sizes, numbers, distance, 'distance from the nearest training class', 'Groups'), size=(9, 5))


class CryoLearnSubtomogramAverageViewer(CryoLearnMapsViewer):
    """Averages of subtomograms: a gallery of slices and surfaces, FSC, sizes."""

    _label = 'subtomogram averages viewer'
    _targets = [CryoLearnProtSubtomogramAverage]
    TABLE_OF = 'outputClasses'

    def _defineResults(self, form):
        self._addLine(form, 'showGallery', 'Gallery of the averages', important=True, help='Central slices and surface of each.')
        CryoLearnMapsViewer._defineResults(self, form)
        self._addLine(form, 'showSizes', 'Sizes of the classes')
        self._addTable(form, 'Classes as a table')

    def nameOf(self, label):
        """Name of a class by the name of its file."""
        if not hasattr(self, '_names'):
            self._names = {'class %03d' % average.number: average.name for average in self._averages()}
        stem, rest = label[:len('class 001')], label[len('class 001'):]
        return self._names.get(stem, stem) + rest

    def _averages(self):
        return list(readAverages(self.extra()).values()) if self.has(AVERAGES_REPORT) else []

    def _showGallery(self, param=None):
        averages = self._averages()
        if not averages:
            return self._notReady('The averages')
        entries = []
        for average in averages:
            resolution = 'halves do not agree' if average.resolution is None else '%.1f Å' % average.resolution
            label = '%s: %d subtomograms, %s' % (average.name, average.count, resolution)
            orders = {'size': -average.count, 'resolution': average.resolution}
            if average.outside is not None:
                label += ', %s %.0f %% like no training class' % ('new:' if average.new else '', 100 * average.outside)
                orders['unlike the training'] = -average.outside
            entries.append((label, average.path, orders))
        return [GalleryWindow(self.title('Averages'), entries, self.formWindow, self._turn)]

    def _turn(self, entries):
        """A window in which the surfaces of some averages can be turned."""
        readers = [partial(readMap, path) for _, path, _ in entries]
        SceneWindow(self.title('Surface'), self.formWindow, maps=readers, names=[label for label, _, _ in entries], startWithMap=True).show()

    def _showSizes(self, param=None):
        averages = self._averages()
        if not averages:
            return self._notReady(CLASSES_REPORT)
        sizes, names = [average.count for average in averages], [average.name for average in averages]
        resolution = np.array([average.resolution for average in averages], dtype=float)
        return self.figure('Sizes of the classes', lambda figure: drawSizes(figure, sizes, names, resolution, 'resolution of the half maps (Å)', 'Averages'))
