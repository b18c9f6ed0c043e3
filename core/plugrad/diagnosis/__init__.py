"""The diagnosis: what went wrong in a run, found in its records."""

from plugrad.diagnosis.diagnosing import diagnose as diagnose
