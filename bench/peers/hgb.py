#!/usr/bin/env python3
"""scikit-learn HistGradientBoosting on posts data: the quality that a trained model has to reach.

Two models, all of 300 rounds (no early stopping) at rate 0.05, else scikit-learn's defaults, over the columns that need no
text: log1p of followers, likes and videos; length; hour, weekday, month, year (UTC); number of hashtags.
  engagement  mean of log1p of Plays, Comments, Diggs, Shares: squared error, reported as R2
  viral       Plays above the training rows' 0.9 quantile: log loss, reported as ROC-AUC and average precision
Rows without a number in one of the four counts are left out; users that the users file lacks stay, with their
columns missing. Prints one JSON line a seed (or one for the split file), then the mean.

Needs Python 3.9, scikit-learn, pandas, numpy. For comparison only: no part of the product uses it.
"""
import argparse
import json
import sys

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score
from sklearn.model_selection import GroupShuffleSplit

COUNTS = ["Plays", "Comments", "Diggs", "Shares"]
POSTS = ["Post ID", "Username", "Created At", "Hashtags", "Length (seconds)", *COUNTS]
USERS = ["Username", "Follower Count", "Total Likes", "Total Videos"]
SUFFIX = {"K": 1e3, "M": 1e6, "B": 1e9}


def to_number(column):
    """"99,600,000", "1.2M" and plain digits to float; anything else to NaN."""
    text = column.astype(str).str.replace(",", "", regex=False).str.strip().str.upper()
    scale = text.str[-1:].map(SUFFIX)
    digits = text.where(scale.isna(), text.str[:-1])
    return pd.to_numeric(digits, errors="coerce").astype(float) * scale.fillna(1.0)


def to_time(column):
    """ISO 8601, MM/DD/YYYY HH:MM or unix seconds, all UTC."""
    text = column.astype(str).str.strip()
    time = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    time = time.fillna(pd.to_datetime(text, format="%m/%d/%Y %H:%M", utc=True, errors="coerce"))
    seconds = pd.to_numeric(text.where(text.str.fullmatch(r"\d{9,10}")), errors="coerce")
    return time.fillna(pd.to_datetime(seconds, unit="s", utc=True))


def count_tags(text):
    try:
        return len(json.loads(text))
    except (TypeError, ValueError):
        return 0


def read_table(path, columns):
    """A CSV file, plain or .gz, as text columns; ends the program if it lacks one of `columns`."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as e:
        sys.exit(f"{path}: {e}")
    missing = [c for c in columns if c not in table.columns]
    if missing:
        sys.exit(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table


def read_rows(posts_path, users_path):
    """The joined rows: (frame of features, engagement, plays, keys, usernames)."""
    posts = read_table(posts_path, POSTS)
    users = read_table(users_path, USERS).drop_duplicates("Username")
    rows = posts.merge(users, on="Username", how="left", validate="many_to_one", sort=False)
    counts = rows[COUNTS].apply(to_number)
    rows, counts = rows[counts.notna().all(axis=1)], counts.dropna()
    time = to_time(rows["Created At"])
    features = pd.DataFrame({
        "followers": np.log1p(to_number(rows["Follower Count"])),
        "likes": np.log1p(to_number(rows["Total Likes"])),
        "videos": np.log1p(to_number(rows["Total Videos"])),
        "length": to_number(rows["Length (seconds)"]),
        "hour": time.dt.hour,
        "weekday": time.dt.day_of_week,
        "month": time.dt.month,
        "year": time.dt.year,
        "hashtags": rows["Hashtags"].map(count_tags),
    }).astype(float)
    engagement = np.log1p(counts).mean(axis=1).to_numpy()
    return features, engagement, counts["Plays"].to_numpy(), rows["Post ID"], rows["Username"]


def split_by_user(usernames, seed, share=0.2):
    """Masks (train, test): a random share of the users is the test set."""
    cut = GroupShuffleSplit(1, test_size=share, random_state=seed)
    train, _ = next(cut.split(np.zeros(len(usernames)), groups=usernames))
    mask = np.zeros(len(usernames), bool)
    mask[train] = True
    return mask, ~mask


def split_by_file(path, keys, train_parts):
    """Masks (train, test) from a CSV of key,split. A key that is twice in the posts follows its one line."""
    table = read_table(path, ["key", "split"])
    bad = set(table["split"]) - {"train", "val", "test"}
    if bad:
        sys.exit(f"{path}: split is one of train, val, test; found {sorted(bad)[:3]}")
    clash = table.groupby("key")["split"].nunique()
    clash = clash[clash > 1]
    if len(clash):
        sys.exit(f"{path}: {len(clash)} keys are in more than one split, the first is {clash.index[0]}")
    part = keys.map(table.drop_duplicates("key").set_index("key")["split"])
    if part.isna().any():
        print(f"{path}: {int(part.isna().sum())} posts of {len(keys)} are in no split; left out", file=sys.stderr)
    return part.isin(train_parts).to_numpy(), (part == "test").to_numpy()


def score(features, engagement, plays, train, test):
    if not train.any() or not test.any():
        sys.exit(f"nothing to do: {train.sum()} training rows, {test.sum()} test rows")
    shape = dict(max_iter=300, learning_rate=0.05, early_stopping=False, random_state=0)
    features = features.loc[:, features[train].notna().any()]  # scikit-learn fails on a column without a value
    viral = plays > np.quantile(plays[train], 0.9)
    r = HistGradientBoostingRegressor(**shape).fit(features[train], engagement[train])
    c = HistGradientBoostingClassifier(**shape).fit(features[train], viral[train])
    p = c.predict_proba(features[test])[:, 1]
    one_class = viral[test].all() or not viral[test].any()
    return {
        "r2": r2_score(engagement[test], r.predict(features[test])),
        "roc_auc": float("nan") if one_class else roc_auc_score(viral[test], p),
        "average_precision": float("nan") if one_class else average_precision_score(viral[test], p),
        "train": int(train.sum()),
        "test": int(test.sum()),
    }


def show(label, result):
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}
    print(json.dumps({**label, **rounded}), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--posts", required=True, metavar="FILE", help="Posts.csv or Posts.csv.gz")
    p.add_argument("--users", required=True, metavar="FILE", help="Users.csv or Users.csv.gz")
    how = p.add_mutually_exclusive_group(required=True)
    how.add_argument("--split", action="append", metavar="FILE",
                     help="CSV of key,split: key a Post ID, split train, val or test; may be given several times")
    how.add_argument("--seed", nargs="+", type=int, metavar="N", help="random 80/20 split by user, one for each N")
    p.add_argument("--train-only", action="store_true",
                   help="with --split: train on train alone (default: on train and val together)")
    a = p.parse_args()
    features, engagement, plays, keys, usernames = read_rows(a.posts, a.users)
    parts = ["train"] if a.train_only else ["train", "val"]
    results = []
    for which in a.split or a.seed:
        if a.split:
            label, masks = {"split": which}, split_by_file(which, keys, parts)
        else:
            label, masks = {"seed": which}, split_by_user(usernames, which)
        results.append(score(features, engagement, plays, *masks))
        show(label, results[-1])
    names = ["r2", "roc_auc", "average_precision"]
    show({"mean": len(results)}, {n: float(np.mean([r[n] for r in results])) for n in names})


if __name__ == "__main__":
    main()
