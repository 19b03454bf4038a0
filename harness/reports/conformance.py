"""x"""
def show_conformance(table, console): 
    from harness.conformance.running import alarms
    for f in table.found:
        print(f.listed.name, f.state.value, f.why, len(f.cells))
def write_conformance_markdown(path, table): pass
