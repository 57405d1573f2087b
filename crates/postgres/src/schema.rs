//! The schema as pg_dump writes it, taken apart into one digest per object.
