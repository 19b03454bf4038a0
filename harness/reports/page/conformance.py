def write_conformance_page(path, table): pass
