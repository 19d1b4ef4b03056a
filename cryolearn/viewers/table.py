"""A table of numbered rows that can be selected and sorted."""

from functools import partial
from tkinter import ttk


class RowsTable(ttk.Frame):
    """Table whose first column numbers the rows.

    Parameters
    ----------
    columns : sequence of (name, heading, width)
    rows : list of dict
        Values by name, numbers or text; a row whose ``selected`` is False is grey.
    command : callable
        Called when the selection changes.
    descending : sequence of str
        Columns that are sorted from the largest down; the others start with the smallest.
    """

    def __init__(self, parent, columns, rows, command, multiple=True, height=18, descending=()):
        ttk.Frame.__init__(self, parent)
        self.rows, self.key, self.descending = list(rows), columns[0][0], descending
        self.tree = ttk.Treeview(self, columns=[name for name, _, _ in columns], show='headings', height=height,
                                 selectmode='extended' if multiple else 'browse')
        for name, label, width in columns:
            self.tree.heading(name, text=label, command=partial(self.sort, name))
            self.tree.column(name, width=width, anchor='e')
        self.tree.tag_configure('weak', foreground='#999999')
        bar = ttk.Scrollbar(self, command=self.tree.yview)
        self.tree.configure(yscrollcommand=bar.set)
        self.tree.pack(side='left', fill='both', expand=True)
        bar.pack(side='right', fill='y')
        for row in self.rows:
            values = ['%d' % row[self.key]] + [_short(row.get(name)) for name, _, _ in columns[1:]]
            self.tree.insert('', 'end', iid=str(row[self.key]), values=values, tags=() if row.get('selected', True) else ('weak',))
        self.tree.bind('<<TreeviewSelect>>', lambda event: command())

    def sort(self, name):
        """Order by a column."""
        worst = float('inf')
        rows = sorted(self.rows, key=lambda row: worst if row.get(name) is None else row[name] * (-1 if name in self.descending else 1))
        for place, row in enumerate(rows):
            self.tree.move(str(row[self.key]), '', place)

    def select(self, numbers):
        wanted = [str(number) for number in numbers if self.tree.exists(str(number))]
        self.tree.selection_set(wanted)
        if wanted:
            self.tree.see(wanted[0])

    def selected(self):
        return sorted(int(item) for item in self.tree.selection())


def _short(value):
    if isinstance(value, str):
        return value
    return '' if value is None or value != value else '%.3g' % value
