# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Runs a module's tests, and says what came of them as cmocka does."""

import unittest


class Result(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        print(f"[ RUN      ] {test._testMethodName}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        print(f"[       OK ] {test._testMethodName}")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        print(f"{self.failures[-1][1]}[  FAILED  ] {test._testMethodName}")

    def addError(self, test, error):
        super().addError(test, error)
        print(f"{self.errors[-1][1]}[  FAILED  ] {test._testMethodName}")


def main(module):
    """An exit code."""
    result = Result()
    unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    return not result.wasSuccessful()
