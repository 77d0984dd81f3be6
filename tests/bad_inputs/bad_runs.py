from tests.bad_inputs.entry import Entry
ENTRIES: tuple[Entry, ...] = ()
