"""What earlier runs measured on the same machine with the same programs, of the cases that a later one leaves out."""

import json

from measure import Run, Series


def load(folder, about):
    """The results and the commits they were measured at, both by case. Empty where nothing can stand beside a run of today."""
    try:
        with open(f"{folder}/performance.json") as raw:
            found = json.load(raw)
    except FileNotFoundError:
        return {}, {}
    if found["about"] != about:
        return {}, {}
    return revived(found["results"]), found["commits"]


def revived(value):
    if isinstance(value, dict):
        return {key: revived(inner) for key, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return Series([Run(**run) for run in value])
    return value
