"""Each failing test is named as soon as it has failed, not only at the end."""


class FailuresAtOnce:
    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report):
        if report.failed:
            reporter = self.config.pluginmanager.get_plugin('terminalreporter')
            reporter.ensure_newline()
            reporter.write_line('FAILED (%s) %s' % (report.when, report.nodeid), red=True)


def pytest_configure(config):
    if not hasattr(config, 'workerinput'):  # xdist's workers report to the process that has the terminal
        config.pluginmanager.register(FailuresAtOnce(config))
