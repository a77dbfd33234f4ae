# METADATA
# title: Paths
# description: |
#   Finds the rules that a path falls under, by look-ups in an index of
#   data.site: by the path, and by each directory that it is at or below. A face is
#   a path with those directories; of a pattern of the shell they end before the
#   first sign.
package sallyport.lib.paths

# hits are the rules that the path itself falls under.
hits(index, face) := ({id | some id in index.exact[face.path]} | below(index, face)) | {glob.rule |
	some directory in face.under
	some glob in index.globs[directory]
	regex.match(glob.expression, face.path)
}

# covers are the rules that whatever is at or below the path falls under.
covers(index, face) := below(index, face) | {glob.rule |
	some directory in face.under
	some glob in index.globs[directory]
	glob.below
	regex.match(glob.expression, last(face))
}

# reaches are the rules that something at or below the path may fall under.
reaches(index, face) := {id | some id in index.above[last(face)]} | {glob.rule |
	some directory in face.under
	some glob in index.globs[directory]
	regex.match(glob.reach, last(face))
}

# same are the rules with a pattern that reads like the path. A sign of the shell
# matches no more than the same sign of a rule.
same(index, face) := {glob.rule | some glob in index.globs[last(face)]; glob.text == face.path}

below(index, face) := {id | some directory in face.under; some id in index.under[directory]}

# last is the path without what comes after the last directory that is known.
last(face) := face.under[count(face.under) - 1]
