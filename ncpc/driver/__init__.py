"""From a request to a build folder and back: quantize, lower, emit, build, verify, report; reopen and compare."""
