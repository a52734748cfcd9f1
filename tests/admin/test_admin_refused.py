"""The wording that offers known names for an unknown one."""

from proxy.admin.refused import nearest


def test_one_near_name_is_offered():
    assert nearest("standart", ["standard", "free"]) == "did you mean 'standard'?"


def test_several_near_names_are_offered():
    assert nearest("acme", ["acme1", "acme2", "acme3"]) == "did you mean 'acme3', 'acme2' or 'acme1'?"


def test_with_no_near_name_the_known_ones_are_listed_in_order():
    assert nearest("zzz", ["standard", "free"]) == "known: free, standard"


def test_a_long_list_is_cut_and_says_so():
    assert nearest("zzz", [f"a{n}" for n in range(10)]) == "known: a0, a1, a2, a3, a4, a5, a6, a7 and 2 more"


def test_nothing_known_is_said():
    assert nearest("zzz", []) == "there are none yet"
