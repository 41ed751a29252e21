//! What `common` does against real servers and real files. A test whose server is missing fails.
