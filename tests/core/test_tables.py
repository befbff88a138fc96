from noria.core.tables import aligned


def test_columns_are_aligned_and_numbers_flush_right():
    assert aligned([">ms", "op"], [[1.5, "add"], ["10.25", "matmul"]]) == [
        "   ms  op",
        "  1.5  add",
        "10.25  matmul",
    ]


def test_a_table_without_rows_has_its_titles():
    assert aligned(["a", ">b"], []) == ["a  b"]
