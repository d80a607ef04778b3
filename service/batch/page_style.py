"""The style sheet of a report: light and dark after the reader's choice, no font to load."""

CSS = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1f24; --soft: #57606a;
  --line: #d5dae0; --accept: #2a7f9e; --abstain: #c9a227; --reject: #a23b4a; --band: #8883;
  --scored: #6b7785; --error: #4a4a4a; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --ink: #e6e9ed;
  --soft: #a3adb8; --line: #343c46; --accept: #55aecd; --reject: #d4707e; --error: #8d8d8d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .75rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
p { max-width: 46rem; overflow-wrap: anywhere; margin: .5rem 0; }
.mix { display: flex; height: 1.4rem; border-radius: .4rem; overflow: hidden; }
.mix span { flex-basis: 0; min-width: 1px; }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; }
li i { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem;
  margin-right: .4rem; }
.accept { background: var(--accept); } .abstain { background: var(--abstain); }
.reject { background: var(--reject); } .scored { background: var(--scored); }
.error { background: var(--error); }
.scroll { overflow-x: auto; margin: 1rem 0 .4rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; max-width: 28rem; unicode-bidi: isolate; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
figure { margin: 1rem 0 1.5rem; max-width: 66rem; }
figure img { display: block; max-width: 100%; height: auto; border-radius: .3rem; }
svg { display: block; width: 100%; max-width: 44rem; height: auto; }
svg text { font-size: 12px; fill: var(--soft); text-anchor: middle; }
svg text[text-anchor="end"] { text-anchor: end; }
svg .mark { fill: var(--reject); }
.band { fill: var(--band); } .bar, .dot { fill: var(--accept); } .bar.out { fill: var(--reject); }
.axis { stroke: var(--line); } .dash { stroke: var(--soft); stroke-dasharray: 4 3; }
.whisker { stroke: var(--accept); stroke-width: 1.5; }
figcaption { font-size: .875rem; color: var(--soft); max-width: 46rem; margin: .4rem 0 0; }
@media print { .scroll { overflow: visible; } }
"""
