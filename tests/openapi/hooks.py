"""For operations that hold their answers: which of the wrong requests are wrong to the server."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    """An unknown parameter is ignored, and so a request that is wrong by nothing else would be held."""
    known = {parameter.name for parameter in case.operation.query}
    return set(case.query or {}) <= known
