"""Viewers of subtomograms: what a network tells of their classes, how they were divided, and their averages."""

import os
from typing import Optional

import numpy as np
from pyworkflow.object import Pointer
from pyworkflow.protocol import params

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
    readRows,
)
from ..protocols import (
    CryoLearnProtSelectSubtomograms,
    CryoLearnProtSubtomogramAverage,
    CryoLearnProtSubtomogramClassify,
    CryoLearnProtSubtomogramSubdivide,
    CryoLearnProtSubtomogramTrain,
)
from . import plots_subtomograms
from .gallery import GalleryWindow
from .landscape_data import readLandscape
from .landscape_window import LandscapeWindow
from .scene_window import SceneWindow
from .slices_window import readMap
from .viewer_base import CryoLearnViewer
from .viewer_landscape import showTable
from .viewer_learning import CryoLearnLearningViewer
from .viewer_maps import CryoLearnMapsViewer
from .viewer_orientation import ChoiceWindow
from .window import FigureWindow

FEATURES = 'Features of the network'


def launchSelection(project, subtomograms, table, xAxis, yAxis, corners):
    """Launch the batch protocol that makes a subset of the subtomograms inside a polygon; returns the run."""
    run = project.newProtocol(CryoLearnProtSelectSubtomograms)
    run.setObjLabel('selected by features')
    run.inputSubtomograms.copy(subtomograms)
    run.table.set(table)
    run.xAxis.set(xAxis)
    run.yAxis.set(yAxis)
    run.polygon.set(' '.join('%.6g' % value for value in np.asarray(corners).ravel()))
    project.launchProtocol(run)
    return run


class FeaturesViewer(CryoLearnViewer):
    """Base of the viewers that show features of subtomograms: two axes of choice, colours, a lasso."""

    TABLE: Optional[str] = None

    def _addFeaturesParam(self, form, what=''):
        form.addParam('showFeatures', params.LabelParam, label=FEATURES, important=True,
                      help='Points on two axes of your choice, coloured by any column.' + what)

    def getSelectable(self):
        """Pointer to the subtomograms that the lasso makes a subset of; None when there is nothing to make one of."""
        return None

    def _showFeatures(self, param=None):
        path = self.extra(self.TABLE)
        if not os.path.exists(path):
            return self._notReady(self.TABLE)
        pointer = self.getSelectable()

        def select(xAxis, yAxis, corners):
            run = launchSelection(self.getProject(), pointer, path, xAxis, yAxis, corners)
            return 'Run "%s" was launched; its output is the subset.' % run.getRunName()
        return [LandscapeWindow(readLandscape(path), self.title(FEATURES), self.formWindow, onSelect=select if pointer is not None else None,
                                plotTitle=FEATURES, items='subtomograms')]

    def _showConfusion(self, param=None):
        path = self.extra(CONFUSION)
        if not os.path.exists(path):
            return self._notReady(CONFUSION)
        rows, columns, counts = readConfusion(path)
        return [FigureWindow(self.title('Confusion matrix'), self.formWindow,
                             lambda figure: draw_confusion(figure, counts, rows, column_names=columns), size=(7.4, 6.2))]


class CryoLearnSubtomogramTrainViewer(FeaturesViewer, CryoLearnLearningViewer):
    """Learning curves of a network of subtomograms, its confusion matrix, and features of subtomograms that it has not seen."""

    _label = 'subtomogram network viewer'
    _targets = [CryoLearnProtSubtomogramTrain]
    TABLE = VALIDATION_TABLE

    def _defineResults(self, form):
        CryoLearnLearningViewer._defineResults(self, form)
        form.addParam('showConfusion', params.LabelParam, label='Confusion matrix', important=True,
                      help='Which classes are taken for which, of the subtomograms that were kept for validation.')
        self._addFeaturesParam(form, ' Of the subtomograms that were kept for validation.')

    def _getActions(self):
        return dict(CryoLearnLearningViewer._getActions(self), showConfusion=self._showConfusion, showFeatures=self._showFeatures)


class CryoLearnSubtomogramClassifyViewer(FeaturesViewer):
    """Classes of subtomograms: their sizes, how sure they are, the features, a lasso to a subset."""

    _label = 'subtomogram classes viewer'
    _targets = [CryoLearnProtSubtomogramClassify]
    TABLE = CLASSES_TABLE

    def _defineResults(self, form):
        form.addParam('showSizes', params.LabelParam, label='Sizes of the classes', important=True)
        form.addParam('showQuality', params.LabelParam, label='Confidence and novelty')
        self._addFeaturesParam(form, ' The lasso makes a subset, a run of its own.')
        if os.path.exists(self.extra(CONFUSION)):
            form.addParam('showConfusion', params.LabelParam, label='Confusion matrix', help='Against the labels that the input had.')
        if hasattr(self.protocol, 'outputSubtomograms'):
            form.addParam('showTable', params.LabelParam, label='Subtomograms as a table')

    def _getActions(self):
        return {'showSizes': self._showSizes, 'showQuality': self._showQuality, 'showFeatures': self._showFeatures, 'showConfusion': self._showConfusion,
                'showTable': lambda param=None: showTable(self, self.protocol.outputSubtomograms)}

    def getSelectable(self):
        return Pointer(value=self.protocol, extended='outputSubtomograms') if hasattr(self.protocol, 'outputSubtomograms') else None

    def _table(self):
        return ClassTable(self.extra(CLASSES_TABLE)) if os.path.exists(self.extra(CLASSES_TABLE)) else None

    def _showSizes(self, param=None):
        table = self._table()
        if table is None:
            return self._notReady(CLASSES_TABLE)
        counts = np.bincount(table.columns['class'].astype(int), minlength=len(table.names) + 1)
        return [FigureWindow(self.title('Sizes of the classes'), self.formWindow, lambda figure: plots_subtomograms.drawSizes(
            figure, counts, ['unknown', *table.names], title='Subtomograms of each class'))]

    def _showQuality(self, param=None):
        table = self._table()
        if table is None:
            return self._notReady(CLASSES_TABLE)
        columns = {name: table.columns[name] for name in ('confidence', 'novelty') if name in table.columns}
        return [ChoiceWindow(self.title('Confidence'), self.formWindow, columns,
                             lambda figure, label, values: draw_quality(figure, values, label, 'subtomograms'))]


class CryoLearnSubtomogramSubdivideViewer(FeaturesViewer):
    """Groups of subtomograms: the picture of their features with a lasso, their sizes, what they hold."""

    _label = 'subdivision viewer'
    _targets = [CryoLearnProtSubtomogramSubdivide]
    TABLE = CLUSTERS_TABLE

    def _defineResults(self, form):
        self._addFeaturesParam(form, ' The first two axes are a t-SNE picture, for the eye only. The lasso makes a subset, a run of its own.')
        form.addParam('showSizes', params.LabelParam, label='Sizes of the groups', important=True,
                      help='Coloured by the distance from the nearest class of the training: groups that are far from all may be new structures.')
        if hasattr(self.protocol, 'outputClasses'):
            form.addParam('showTable', params.LabelParam, label='Groups as a table')

    def _getActions(self):
        return {'showFeatures': self._showFeatures, 'showSizes': self._showSizes,
                'showTable': lambda param=None: showTable(self, self.protocol.outputClasses)}

    def getSelectable(self):
        return self.protocol.inputSubtomograms

    def _showSizes(self, param=None):
        if not os.path.exists(self.extra(CLUSTERS_REPORT)):
            return self._notReady(CLUSTERS_REPORT)
        rows = readRows(self.extra(CLUSTERS_REPORT))
        numbers, sizes = [int(row['class']) for row in rows], [int(row['subtomograms']) for row in rows]
        distance = [np.nan if row.get('distance') is None else row['distance'] for row in rows]
        return [FigureWindow(self.title('Sizes of the groups'), self.formWindow, lambda figure: plots_subtomograms.drawSizes(
            figure, sizes, numbers, distance if np.isfinite(distance).any() else None, 'distance from the nearest training class', 'Groups'), size=(9, 5))]


class CryoLearnSubtomogramAverageViewer(CryoLearnMapsViewer):
    """Averages of subtomograms: a gallery of slices and surfaces, FSC, sizes."""

    _label = 'subtomogram averages viewer'
    _targets = [CryoLearnProtSubtomogramAverage]

    def _defineResults(self, form):
        form.addParam('showGallery', params.LabelParam, label='Gallery of the averages', important=True, help='Central slices and surface of each.')
        CryoLearnMapsViewer._defineResults(self, form)
        form.addParam('showSizes', params.LabelParam, label='Sizes of the classes')
        if hasattr(self.protocol, 'outputClasses'):
            form.addParam('showTable', params.LabelParam, label='Classes as a table')

    def _getActions(self):
        return dict(CryoLearnMapsViewer._getActions(self), showGallery=self._showGallery, showSizes=self._showSizes,
                    showTable=lambda param=None: showTable(self, self.protocol.outputClasses))

    def nameOf(self, label):
        """Name of a class by the name of its file."""
        if not hasattr(self, '_names'):
            self._names = {'class %03d' % average.number: average.name for average in self._averages()}
        stem, rest = label[:len('class 001')], label[len('class 001'):]
        return self._names.get(stem, stem) + rest

    def _averages(self):
        return list(readAverages(self.extra()).values()) if os.path.exists(self.extra(AVERAGES_REPORT)) else []

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
        readers = [lambda path=path: readMap(path) for _, path, _ in entries]
        SceneWindow(self.title('Surface'), self.formWindow, maps=readers, names=[label for label, _, _ in entries], startWithMap=True).show()

    def _showSizes(self, param=None):
        averages = self._averages()
        if not averages:
            return self._notReady(CLASSES_REPORT)
        resolution = [np.nan if average.resolution is None else average.resolution for average in averages]
        return [FigureWindow(self.title('Sizes of the classes'), self.formWindow, lambda figure: plots_subtomograms.drawSizes(
            figure, [average.count for average in averages], [average.name for average in averages],
            resolution if np.isfinite(resolution).any() else None, 'resolution of the half maps (Å)', 'Averages'))]
