"""Random branches, and random damage to one."""

from __future__ import annotations

from hypothesis import strategies as st

VALID = """\
# yaml-language-server: $schema=../schema/branch.schema.json
apiVersion: star/v1
branch: recruiter-inmail
owner: talent-solutions@example.com
description: Recruiters, and which members answered them.
status: ready  # draft | ready
sources:
  inmails: {path: "${data}/inmails.parquet"}
  members:
    sql: |
      select member_id, headline
      from 'members.parquet'
  profiles: {table: crm.profiles, connection: warehouse}
nodes:
  member: {kind: entity, source: members, key: member_id}
  recruiter: {kind: entity, source: inmails, key: recruiter_id}
  skill: {kind: attribute}
edges:
  # who wrote to whom
  recruiter-messages-member:
    kind: interaction
    source: inmails
    src: {node: recruiter, key: recruiter_id}
    dst: {node: member, key: member_id, unknown: drop}
    timestamp: sent_at
    weight: {column: replies, aggregate: sum}
    window: 180d
    reverse: true
  member-has-skill:
    kind: attribute
    source: profiles
    src: {node: member, key: member_id}
    dst: {node: skill, key: skill, unknown: create}
features:
  member.id: {kind: id, dim: 32}
  member.profile: {kind: text, source: members, key: member_id, columns: [headline]}
objectives:
  accepted:
    kind: link-prediction
    edge: recruiter-messages-member
    label: accepted
    negatives: {kind: labelled}
    weight: 1.5
cohorts:
  seniority: {node: member, column: seniority, source: profiles, key: member_id}
privacy:
  opt_out: {source: profiles, key: member_id, where: "allow_modelling = false"}
  deny_columns:
    - email  # of nobody
    - phone
"""

JUNK = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["\t", "{", "}", "[", "]", ":", "- ", "# ", "'", '"', "<<<<<<< HEAD", "&a", "*a", "!!x", "%", "|", ">", "---"]
    ),
    st.sampled_from(["null", "~", "true", "0", "-1", "1e999", ".nan", "0x", "2026-01-01", "\x00", "\ufeff", "\u2028"]),
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A valid branch after one to four random edits."""
    lines = VALID.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        match draw(st.sampled_from(["delete", "double", "insert", "value", "inside", "indent", "cut", "swap"])):
            case "delete":
                lines[at] = ""
            case "double":
                lines[at] = line * 2
            case "insert":
                lines[at] = draw(JUNK) + "\n" + line
            case "value":
                lines[at] = line.partition(":")[0] + ": " + draw(JUNK) + "\n"
            case "inside":
                column = draw(st.integers(0, max(0, len(line) - 1)))
                lines[at] = line[:column] + draw(JUNK) + line[column:]
            case "indent":
                lines[at] = " " * draw(st.integers(0, 5)) + line.lstrip()
            case "cut":
                lines[at] = line[: draw(st.integers(0, len(line)))]
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[at], lines[other] = lines[other], lines[at]
    return "".join(lines)


@st.composite
def commented(draw: st.DrawFn) -> str:
    """The valid branch with comments and empty lines strewn over it, its blocks shuffled."""
    lines = VALID.splitlines()
    out: list[str] = []
    in_text = False
    for number, line in enumerate(lines):
        in_text = line.strip() in ("select member_id, headline", "from 'members.parquet'")
        if not in_text:
            out += [""] * draw(st.sampled_from([0, 0, 0, 1, 2]))
            if draw(st.integers(0, 4)) == 0:
                out.append(" " * draw(st.sampled_from([0, 2, 4, 6])) + f"# note {number}")
        beside = draw(st.integers(0, 4)) == 0 and "#" not in line and not in_text and not line.endswith("|")
        out.append(line + (f"   # beside {number}" if beside else ""))
    return "\n".join(out) + draw(st.sampled_from(["", "\n", "\n\n# the end\n"]))
